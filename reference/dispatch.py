"""A variable that answers to NumPy's functions.

The ops carry the names of the Array API standard, which NumPy's functions carry as well, so `np.sum` of a variable is the
op `sum`. That is how a pullback, written in NumPy, is recorded when it runs on variables, and why second derivatives need
no second formula.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from gradspec.reference import ops as _declared  # noqa: F401  fills OPS
from gradspec.reference.arrays import as_array
from gradspec.reference.op import OPS, Op
from gradspec.reference.tape import Variable


def index_by_function(ops: Mapping[str, Op]) -> dict[Any, Op]:
    """The ops by the NumPy function that has their name."""
    return {getattr(np, name): op for name, op in ops.items() if hasattr(np, name)}


def unwrap(x: Any) -> Any:
    """The array of a variable; everything else, also within a tuple, as it is."""
    return tuple(map(unwrap, x)) if isinstance(x, tuple) else x.data if isinstance(x, Variable) else x


def make_comparison_method(ufunc: np.ufunc) -> Callable[..., Any]:
    """A comparison as a method: truth values have no derivative, so no op is needed."""

    def method(self: Any, other: Any) -> Any:
        return type(self)(as_array(ufunc(self.data, unwrap(other))))

    return method


class NumPyVariable(Variable):
    """A `Variable` for NumPy's two protocols: ufuncs (`np.exp`) and other functions (`np.concat`).

    offered: what answers to a function of NumPy. Another array library puts its own rules here.
    """

    __slots__ = ()
    ops_by_function: ClassVar[Mapping[Any, Op]] = index_by_function(OPS)

    __ne__, __le__, __ge__ = (
        make_comparison_method(np.not_equal),
        make_comparison_method(np.less_equal),
        make_comparison_method(np.greater_equal),
    )
    __hash__ = object.__hash__

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self.data.ndim  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    def detach(self) -> Self:
        """The same memory off the tape."""
        return type(self)(self.data)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and ufunc in self.ops_by_function and not kwargs:
            return self.ops_by_function[ufunc].apply(*inputs)
        if method == "__call__" and ufunc.types[0].endswith("->?"):
            truths = ufunc(*map(unwrap, inputs), **kwargs)  # they have no derivative
            return type(self)(as_array(truths))
        if method == "reduce" and ufunc is np.add:
            return self.ops_by_function[np.sum].apply(*inputs, **kwargs)
        raise TypeError(
            f"np.{ufunc.__name__} ({method}) has no rule for tensors; {_SUPPORTED_FUNCTIONS_HINT}"
        )

    def __array_function__(
        self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if function not in self.ops_by_function:
            raise TypeError(f"np.{function.__name__} has no rule for tensors; {_SUPPORTED_FUNCTIONS_HINT}")
        op = self.ops_by_function[function]
        n = len(op.arguments)
        return op(*args[:n], **dict(zip(op.keywords, args[n:], strict=False)), **kwargs)


_SUPPORTED_FUNCTIONS_HINT = (
    f"those with one are {', '.join(sorted(op.name for op in NumPyVariable.ops_by_function.values()))}"
)
