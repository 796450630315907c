"""`NumPyVariable`, a variable that NumPy's functions accept.

Ops and NumPy's functions share the names of the Array API standard, so `np.sum` of a variable is the op
`sum`. That is how a pullback, written in NumPy, is recorded when it runs on variables, and why second
derivatives need no second formula.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np

from gradspec.reference import ops as _ops  # noqa: F401  fills OPS
from gradspec.reference.arrays import as_array
from gradspec.reference.op import OPS, Op
from gradspec.reference.tape import Variable


def index_by_function(ops: Mapping[str, Op]) -> dict[Any, Op]:
    """Return the ops by the NumPy functions of the same names."""
    return {getattr(np, name): op for name, op in ops.items() if hasattr(np, name)}


def unwrap(x: Any) -> Any:
    """Return the array of a variable, also within a tuple; return everything else as it is."""
    return tuple(map(unwrap, x)) if isinstance(x, tuple) else x.data if isinstance(x, Variable) else x


def make_comparison_method(ufunc: np.ufunc) -> Callable[..., Any]:
    """Return a comparison as a method: truth values have no derivative, so no op is needed."""

    def method(self: Any, other: Any) -> Any:
        return type(self)(as_array(ufunc(self.data, unwrap(other))))

    return method


class NumPyVariable(Variable):
    """A `Variable` with NumPy's two protocols: for ufuncs (`np.exp`) and for other functions (`np.concat`).

    Attributes:
        ops_by_function: the op for each function of NumPy; another array library puts its own rules here.
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
        """Return a variable of the same memory that is not on the tape."""
        return type(self)(self.data)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and ufunc in self.ops_by_function and not kwargs:
            return self.ops_by_function[ufunc].apply(*inputs)
        if method == "__call__" and ufunc.types[0].endswith("->?"):
            # Truth values have no derivative.
            truths = ufunc(*map(unwrap, inputs), **kwargs)
            return type(self)(as_array(truths))
        if method == "reduce" and ufunc is np.add:
            return self.ops_by_function[np.sum].apply(*inputs, **kwargs)
        name = f"np.{ufunc.__name__} ({method})"
        raise TypeError(f"{name} has no rule for tensors; {_SUPPORTED_FUNCTIONS_HINT}")

    def __array_function__(
        self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if function not in self.ops_by_function:
            raise TypeError(f"np.{function.__name__} has no rule for tensors; {_SUPPORTED_FUNCTIONS_HINT}")
        op = self.ops_by_function[function]
        n = len(op.arguments)
        return op(*args[:n], **dict(zip(op.keywords, args[n:], strict=False)), **kwargs)


@contextmanager
def use_forms(forms: Mapping[str, Op]) -> Iterator[None]:
    """Let NumPy's functions of variables be these forms of ops within the context.

    A rule that calls `np.tanh` then records that form, too, when it runs on variables: higher derivatives are
    by it throughout.

    Args:
        forms: forms of ops, such as `Op.usual_forms`, by the names of the ops.
    """
    before = NumPyVariable.ops_by_function
    NumPyVariable.ops_by_function = index_by_function({**OPS, **forms})
    try:
        yield
    finally:
        NumPyVariable.ops_by_function = before


_supported_names = sorted(op.name for op in NumPyVariable.ops_by_function.values())
_SUPPORTED_FUNCTIONS_HINT = f"functions with a rule: {', '.join(_supported_names)}"
