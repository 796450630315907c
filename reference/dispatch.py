"""A variable that answers to NumPy's functions.

The ops carry the names of the Array API standard, which NumPy's functions carry as well, so `np.sum` of a variable is the
op `sum`. That is how a pullback, written in NumPy, is recorded when it runs on variables, and why second derivatives need
no second formula.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradspec.reference import ops as _declared  # noqa: F401  fills OPS
from gradspec.reference.op import OPS, Op
from gradspec.reference.tape import Variable

_OPS: dict[Any, Op] = {getattr(np, name): op for name, op in OPS.items() if hasattr(np, name)}


def plain(x: Any) -> Any:
    """The array of a variable; everything else, also within a tuple, as it is."""
    return tuple(map(plain, x)) if isinstance(x, tuple) else x.data if isinstance(x, Variable) else x


def truth(ufunc: np.ufunc) -> Callable[..., Any]:
    """A comparison as a method: truth values have no derivative, so no op is needed."""

    def method(self: Any, other: Any) -> Any:
        return type(self)(np.asarray(ufunc(self.data, plain(other))))

    return method


class NumPyVariable(Variable):
    """A `Variable` for NumPy's two protocols: ufuncs (`np.exp`) and other functions (`np.concat`)."""

    __slots__ = ()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and ufunc in _OPS and not kwargs:
            return _OPS[ufunc].apply(*inputs)
        if method == "__call__" and ufunc.types[0].endswith("->?"):
            truths = ufunc(*map(plain, inputs), **kwargs)  # they have no derivative
            return type(self)(np.asarray(truths))
        if method == "reduce" and ufunc is np.add:
            return OPS["sum"].apply(*inputs, **kwargs)
        raise TypeError(f"np.{ufunc.__name__} ({method}) has no rule for tensors; {_ALLOWED}")

    def __array_function__(
        self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if function not in _OPS:
            raise TypeError(f"np.{function.__name__} has no rule for tensors; {_ALLOWED}")
        op = _OPS[function]
        n = len(op.arguments)
        return op(*args[:n], **dict(zip(op.keywords, args[n:], strict=False)), **kwargs)


_ALLOWED = f"those with one are {', '.join(sorted(op.name for op in _OPS.values()))}"
