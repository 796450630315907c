"""`NumPyVariable`, a variable that NumPy's functions accept.

Ops and NumPy's functions share the names of the Array API standard, so `np.sum` of a variable is the op
`sum`. That is how a pullback, written in NumPy, is recorded when it runs on variables, and why second
derivatives need no second formula.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from gradspec.reference import ops as _ops  # noqa: F401  fills OPS
from gradspec.reference.arrays import as_array
from gradspec.reference.numpy_functions import MADE_OF_OPS, MAKING_CONSTANTS, READING_SHAPES
from gradspec.reference.op import OPS, Op
from gradspec.reference.tape import Variable


def index_by_function(ops: Mapping[str, Op]) -> dict[Any, Op]:
    """Return the ops by the NumPy functions of the same names; those of the spec where several have one."""
    rooms = (np.linalg, np)
    own_first = sorted(ops.values(), key=lambda op: not op.module)
    return {getattr(room, op.name): op for room in rooms for op in own_first if hasattr(room, op.name)}


def unwrap(x: Any) -> Any:
    """Return the array of a variable, also within a tuple; return everything else as it is."""
    return tuple(map(unwrap, x)) if isinstance(x, tuple) else x.data if isinstance(x, Variable) else x


def _is_floating(x: Any) -> bool:
    return isinstance(x, Variable) and x.data.dtype.kind not in "biu"


def _compare(kind: type[Variable], ufunc: np.ufunc, *inputs: Any, **kwargs: Any) -> Any:
    """Return truth values as a variable; they have no derivative, so no op is needed."""
    compares = (ufunc.nin == 2 or ufunc is np.signbit) and any(map(_is_floating, inputs))
    if kind.note_constant is not None and compares:
        kind.note_constant(ufunc.__name__)
    return kind(as_array(ufunc(*map(unwrap, inputs), **kwargs)))


def make_comparison_method(ufunc: np.ufunc) -> Callable[..., Any]:
    """Return a comparison as a method."""
    return lambda self, other: _compare(type(self), ufunc, self, other)


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
        if method == "__call__" and not kwargs:
            if ufunc in self.ops_by_function:
                return self.ops_by_function[ufunc].apply(*inputs)
            if ufunc in MADE_OF_OPS:
                return MADE_OF_OPS[ufunc](*inputs)
        if method == "__call__" and ufunc.types[0].endswith("->?"):
            return _compare(type(self), ufunc, *inputs, **kwargs)
        if method == "accumulate" and ufunc is np.add:
            return self.ops_by_function[np.cumulative_sum].apply(inputs[0], axis=kwargs.get("axis", 0))
        if method == "reduce" and ufunc is np.add:
            return self.ops_by_function[np.sum].apply(*inputs, **kwargs)
        if (later := find_op_declared_later(ufunc)) and method == "__call__" and not kwargs:
            return later.apply(*inputs)
        raise TypeError(f"np.{ufunc.__name__} ({method}) has no rule for tensors; {_hint_at_functions()}")

    def __array_function__(
        self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if function in MADE_OF_OPS:
            return MADE_OF_OPS[function](*args, **kwargs)
        if function in READING_SHAPES:
            return function(*map(unwrap, args), **kwargs)
        if function in MAKING_CONSTANTS:
            return type(self)(as_array(function(*map(unwrap, args), **kwargs)))
        op = self.ops_by_function.get(function) or find_op_declared_later(function)
        if op is None:
            raise TypeError(f"np.{function.__name__} has no rule for tensors; {_hint_at_functions()}")
        if function is np.transpose and len(args) == 1 and not kwargs:  # another name of np.permute_dims
            args = (*args, tuple(range(args[0].ndim))[::-1])
        n = len(op.arguments)
        return op(*args[:n], **dict(zip(op.keywords, args[n:], strict=False)), **kwargs)


def find_op_declared_later(function: Any) -> Op | None:
    """Return the op with the name of a function of NumPy that was declared since this module was loaded."""
    return index_by_function(OPS).get(function)


def _hint_at_functions() -> str:
    """Return the end of a message: the functions of NumPy that tensors take."""
    functions = {*index_by_function(OPS), *MADE_OF_OPS, *READING_SHAPES, *MAKING_CONSTANTS}
    return f"functions that have one: {', '.join(sorted({f.__name__ for f in functions}))}"
