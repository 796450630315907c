"""The tape: reverse-mode differentiation of any program made of recorded rules.

A rule computes a value and one pullback per array argument, an op made from it by `record` leaves both on the
tape, and `Variable.backward` and `vjp` walk the record from the youngest variable to the oldest. The tape
knows no op and no array library: an array needs `shape`, `dtype`, `ndim`, `size`, `+`, `astype` and `copy`,
and must be accepted by NumPy's `sum`, `ones_like` and `zeros_like`.
"""

from collections.abc import Callable
from contextvars import ContextVar
from itertools import count
from typing import Any, Self

import numpy as np

from gradspec.reference.arrays import (
    as_array,
    as_cotangent,
    copy_with_layout,
    copy_writable,
    intern_shape_dtype,
    is_changed,
    is_sole_reference,
)
from gradspec.reference.backward import (
    COTANGENT,
    IS_OWN,
    UNKNOWN_SHAPE_DTYPE,
    VARIABLE,
    depends_on_older,
    run_backward,
)
from gradspec.reference.grad_mode import set_grad_enabled
from gradspec.reference.rule import Array, Pullback, Rule
from gradspec.reference.several_values import join_values

sequence_numbers = count(1)

_is_within_vjp: ContextVar[bool] = ContextVar("is_within_vjp", default=False)


def get_shape_dtype(x: "Variable") -> object:
    """Return the shape and dtype of x as one object, to be compared by identity."""
    x._shape_dtype = intern_shape_dtype(x._data.shape, x._data.dtype)
    return x._shape_dtype


class Variable:
    """An array on the tape: at once a tensor and the node that says how it was computed.

    Attributes:
        data: the array.
        requires_grad: whether a backward pass carries a cotangent here.
        grad: on a leaf, the gradient accumulated so far, a variable of the shape and dtype of `data`, or
            None.
    """

    __slots__ = (
        "_data",
        "_grad",
        "_gradient_shape_dtype",
        "_parents",
        "_pullbacks",
        "_rule_call",
        "_sequence_nr",
        "_shape_dtype",
    )

    # Copies an array with its layout; a library may have its own way.
    copy_with_layout: Callable[[Array], Array] = staticmethod(copy_with_layout)
    note_constant: Callable[[Any], None] | None = None  # is told of each rule without pullbacks

    _data: Array
    # Shape and dtype, the same object for all variables that share them; None until someone asks.
    _shape_dtype: object
    # When it was made: whatever consumes it is younger, and has a higher number.
    _sequence_nr: int
    # Set on leaves only.
    _grad: Self | None
    # The arguments that require grad, else None for each; empty on a leaf, None where no grad is required.
    _parents: tuple[Self | None, ...] | None

    # A recorded op's result also has these:
    _pullbacks: tuple[Pullback | None, ...] | Callable[[Array], tuple[Array, ...]]
    # Shape and dtype of what the pullbacks return.
    _gradient_shape_dtype: object
    # What to run again: the rule alone if its arguments are the parents and it takes no keywords; else the
    # rule, its arguments (arrays where they do not require grad) and its keywords.
    _rule_call: Rule | tuple[Rule, tuple[Any, ...], dict[str, Any]]

    def __init__(self, data: Array, requires_grad: bool = False) -> None:
        self._data = data
        self._shape_dtype = None
        self._sequence_nr = next(sequence_numbers)
        self._parents = None
        if requires_grad:
            self.requires_grad_()

    @property
    def data(self) -> Array:
        return self._data

    @data.setter
    def data(self, data: Array) -> None:
        self._data = data
        self._shape_dtype = None

    @property
    def grad(self) -> Self | None:
        return getattr(self, "_grad", None)

    @grad.setter
    def grad(self, grad: Self | None) -> None:
        self._grad = grad

    @property
    def requires_grad(self) -> bool:
        return self._parents is not None

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self.requires_grad_(requires_grad)

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made it; `backward` stores gradients on leaves."""
        return not self._parents

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether a leaf requires grad, and return the variable itself; earlier results are not affected.

        Raises:
            TypeError: for an array that is not of floating point.
            ValueError: for the result of a recorded op, which always requires grad.
        """
        if self._parents and not requires_grad:
            raise ValueError(
                "the result of a recorded op always requires grad; use detach() for one that does not"
            )
        if requires_grad and np.dtype(self.data.dtype).kind in "biu":
            raise TypeError(
                f"only floating-point arrays have gradients; this one has dtype {self.data.dtype}"
            )
        self._parents = (self._parents or ()) if requires_grad else None
        return self

    def backward(self, end_grad: Array = None, *, ones: bool = False, create_graph: bool = False) -> None:
        """Add the gradient with respect to every leaf that this value was computed from to the leaf's `grad`.

        Args:
            end_grad: the cotangent of this value, of the same shape; 1 by default if the value has one
                element.
            ones: whether a cotangent of ones stands in its place, which gives the gradient of the sum of
                the elements. It must be asked for, since it hides errors: under it a softmax has the gradient
                0.
            create_graph: record the backward pass itself, so that the gradients can be differentiated in
                turn.

        Raises:
            RuntimeError: if nothing was recorded, or if an array that is still needed was overwritten.
            ValueError: for a cotangent of the wrong shape, or one beside `ones`.
            Exception: whatever a pullback raises, with a note that names its op.
        """
        if not self.requires_grad:
            raise RuntimeError("backward() needs a value computed from a tensor with requires_grad=True")
        if ones:
            if end_grad is not None:
                raise ValueError("backward() takes either a cotangent or ones=True, which stands for one")
            end_grad = np.ones_like(self.data)
        gradients = _compute_owned_gradients(
            self, _prepare_cotangent(self, end_grad, create_graph), create_graph
        )
        # All of them are computed before any is stored.
        for leaf, g in gradients.values():
            if leaf.grad is not None:
                g = (leaf.grad if create_graph else leaf.grad.data) + g
            leaf.grad = _wrap(type(leaf), g)


def vjp(
    fn: Callable[..., Any], *inputs: Array, variable_class: type[Variable] = Variable
) -> tuple[Any, Callable[..., tuple[Array, ...]]]:
    """Return the value of `fn` at `inputs` and its pullback.

    `pullback(g)` returns a tuple with one gradient per input. Each gradient has the shape and dtype of its
    input, zeros where the value does not depend on it, and memory of its own. The value has memory of its
    own, too; nothing written to it or to the inputs later changes what the pullback returns. Arrays give
    arrays; variables give variables, and if one of them requires grad, both the value and the gradients can
    be differentiated again. So they can within the `fn` of another `vjp`, by whatever variables of it this
    `fn` closes over: of x * y at y, the gradient by y is x, and its derivative by x is 1.

    Where `fn` returns a tuple, so does `vjp` for the value, and `pullback(g, h, ...)` takes one cotangent for
    each of them, or None for one that plays no part.

    Args:
        fn: any composition of recorded ops.
        *inputs: arrays or variables.
        variable_class: the class of the variables that `fn` is called with.

    Raises:
        TypeError: for an input that is not of floating point, for values in a list or dictionary, or by the
            pullback, for another number of cotangents than there are values.
        RuntimeError: if fn wrote to an input.
        ValueError: by the pullback, if g does not have the shape of the value.
    """
    nested = any(isinstance(x, Variable) for x in inputs)
    leaves = [
        _make_alias(x)
        if isinstance(x, Variable)
        else variable_class(variable_class.copy_with_layout(x), requires_grad=True)
        for x in inputs
    ]
    token = _is_within_vjp.set(True)
    try:
        with set_grad_enabled(True):
            value = fn(*leaves)
    finally:
        _is_within_vjp.reset(token)
    several = isinstance(value, tuple)
    root = join_values(value, next(sequence_numbers)) if several else value
    has_root = isinstance(root, Variable)
    if not has_root and isinstance(value, list | dict):
        raise TypeError(
            f"fn returned a {type(value).__name__}; vjp differentiates an array or a tuple of arrays"
        )
    closes_over = _is_within_vjp.get() and has_root and depends_on_older(root, leaves)
    nested, count = nested or closes_over, len(value) if several else 1
    for x, leaf in zip(inputs, leaves, strict=True):
        if not isinstance(x, Variable) and is_changed(leaf.data, x):
            raise RuntimeError(f"{getattr(fn, '__name__', fn)} or one of its ops wrote to an input")

    def pullback(*gs: Array) -> tuple[Array, ...]:
        if len(gs) != count:
            raise TypeError(f"the pullback takes one cotangent per value, {count} in all; it got {len(gs)}")
        has_variables = any(map(_is_variable, gs)) if several else isinstance(gs[0], Variable)
        create_graph = closes_over or has_variables or any(x._parents for x in leaves)
        gradients: dict[int, tuple[Variable, Array]] = {}
        if has_root and root.requires_grad:
            keys = frozenset(x._sequence_nr for x in leaves)
            prepare: Any = _prepare_cotangents if several else _prepare_cotangent
            g = prepare(value, gs if several else gs[0], create_graph)
            gradients = _compute_owned_gradients(root, g, create_graph, keys)

        def get_gradient(x: Variable) -> Array:
            return gradients[x._sequence_nr][1] if x._sequence_nr in gradients else np.zeros_like(x.data)

        return tuple(_wrap(variable_class, get_gradient(x)) if nested else get_gradient(x) for x in leaves)

    if nested:
        return value, pullback
    return (tuple(map(_copy_value, value)) if several else _copy_value(value)), pullback


def _compute_owned_gradients(
    root: Variable, g: Array, create_graph: bool, inputs: frozenset[int] = frozenset()
) -> dict[int, tuple[Variable, Array]]:
    """Return what `run_backward` returns: each variable and its gradient, in memory of its own."""
    sums = run_backward(root, g, create_graph, inputs)
    return {
        key: (
            x[VARIABLE],
            x[COTANGENT]
            if (x[IS_OWN] or is_sole_reference(x, COTANGENT)) and not isinstance(x[COTANGENT], np.generic)
            else _copy_cotangent(x[COTANGENT]),
        )
        for key, x in sums.items()
    }


def _prepare_cotangent(root: Variable, g: Array, create_graph: bool) -> Array:
    """Return the cotangent to start from, a Variable if the pass is to be recorded."""
    g = as_cotangent(g if create_graph else _unwrap(g), root.data)
    return type(root)(g) if create_graph and not isinstance(g, Variable) else g


def _prepare_cotangents(values: tuple[Any, ...], gs: tuple[Array, ...], create_graph: bool) -> list[Array]:
    """Return the cotangents to start from of those values that require grad; zeros where one is None."""
    pairs = [(v, g) for v, g in zip(values, gs, strict=True) if isinstance(v, Variable) and v.requires_grad]
    return [_prepare_cotangent(v, np.zeros_like(v.data) if g is None else g, create_graph) for v, g in pairs]


def _copy_value(x: Any) -> Array:
    return copy_writable(x.data) if isinstance(x, Variable) else x


def _unwrap(x: Any) -> Any:
    """Return the array of a variable; return anything else as it is."""
    return x.data if isinstance(x, Variable) else x


def _is_variable(x: Any) -> bool:
    return isinstance(x, Variable)


def _make_alias(x: Variable) -> Variable:
    """Return a variable of the same data, one step younger than x, through which cotangents reach x."""
    alias = type(x)(x.data, requires_grad=True)
    if x.requires_grad:
        alias._pullbacks = _identity(x.data)[1]
        alias._parents, alias._gradient_shape_dtype, alias._rule_call = (x,), UNKNOWN_SHAPE_DTYPE, _identity
    return alias


def _identity(x: Array) -> tuple[Array, tuple[Pullback]]:
    return x, (lambda g: g,)


def _copy_cotangent(g: Array) -> Array:
    """Return the cotangent g in memory of its own; if g is recorded, so is the copy."""
    if not isinstance(g, Variable):
        return copy_writable(g)
    copy = _make_alias(g)
    copy.data = g.data.copy()
    return copy


def _wrap(kind: type[Variable], g: Array) -> Any:
    return g if isinstance(g, Variable) else kind(as_array(g))
