"""The tape: reverse-mode differentiation of any program made of recorded rules.

A rule computes a value and one pullback per array argument, an op made from it by `record` leaves both on the tape, and
`Variable.backward` and `vjp` walk the record from the youngest variable to the oldest. The tape knows no
op and no array library: of an array it asks for `shape`, `dtype`, `ndim`, `size`, `+`, `astype` and `copy`, and that
NumPy's `sum`, `ones_like` and `zeros_like` know it.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import Any, Self

import numpy as np

from gradspec.reference.arrays import (
    as_array,
    as_cotangent,
    copy_with_layout,
    copy_writable,
    is_changed,
    is_sole_reference,
)
from gradspec.reference.backward import UNKNOWN_SHAPE_DTYPE, run_backward
from gradspec.reference.grad_mode import set_grad_enabled
from gradspec.reference.rule import Array, Pullback, Rule

sequence_numbers = count(1)


@lru_cache(maxsize=1024)  # a form that was forgotten is made again, and what is of the old one is fitted
def _intern_shape_dtype(shape: tuple[int, ...], dtype: Any) -> object:
    return shape, dtype


def get_shape_dtype(x: "Variable") -> object:
    """Shape and dtype of x as one object, to be compared by identity."""
    x._shape_dtype = _intern_shape_dtype(x._data.shape, x._data.dtype)
    return x._shape_dtype


class Variable:
    """An array on the tape: at once a tensor and the node that says how it came about.

    data: the array. requires_grad: whether a backward pass carries a cotangent here. grad: on a leaf, the gradient
    accumulated so far, a variable of the shape and dtype of `data`, or None.
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

    _data: Array
    _shape_dtype: object  # shape and dtype, the same object for all that are alike; None until someone asks
    _sequence_nr: int  # when it was made: whatever consumes it is younger
    _grad: Self | None  # set on leaves only
    # The arguments that require grad, None for the others; none at all on a leaf, and None where nothing is recorded.
    _parents: tuple[Self | None, ...] | None

    # The result of an op that is recorded has also:
    _pullbacks: tuple[Pullback | None, ...] | Callable[[Array], tuple[Array, ...]]
    _gradient_shape_dtype: object  # the form of what they return
    # To run it again: the rule; and where its arguments are not just the parents these (arrays where they do not require
    # grad) and its keywords.
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
        """Whether no recorded op made it. Leaves are where `backward` leaves gradients."""
        return not self._parents

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask for the gradient of a leaf, or no longer; returns the variable itself. What was computed before stays.

        Raises TypeError for an array that is not of floating point, ValueError for the result of a recorded op.
        """
        if self._parents and not requires_grad:
            raise ValueError(
                "the result of a recorded op always requires grad; detach() gives one that does not"
            )
        if requires_grad and np.dtype(self.data.dtype).kind in "biu":
            raise TypeError(
                f"only floating-point arrays have gradients; this one has dtype {self.data.dtype}"
            )
        self._parents = (self._parents or ()) if requires_grad else None
        return self

    def backward(self, end_grad: Array = None, *, create_graph: bool = False) -> None:
        """Add to the `grad` of every leaf that led here what `end_grad` pulls back to it.

        end_grad: the cotangent of this value and of its shape; a value of one element may do without: 1.
        create_graph: record the pass itself, so that the gradients can be differentiated in turn.
        Raises RuntimeError where nothing was recorded or an array that is still needed was overwritten, ValueError for
        a cotangent of the wrong shape; what a pullback raises carries a note that names its op.
        """
        if not self.requires_grad:
            raise RuntimeError("backward() needs a value computed from a tensor with requires_grad=True")
        gradients = _compute_gradients(self, _start_cotangent(self, end_grad, create_graph), create_graph)
        for leaf, g in gradients.values():  # all of them are known before any is stored
            if leaf.grad is not None:
                g = (leaf.grad if create_graph else leaf.grad.data) + g
            leaf.grad = _wrap(type(leaf), g)


def vjp(
    fn: Callable[..., Any], *inputs: Array, variable_class: type[Variable] = Variable
) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
    """The value of `fn` at `inputs` and its pullback: `pullback(g)` is a tuple with one gradient per input.

    `fn` is any composition of recorded ops; g has the shape of the value. Each gradient has the shape and dtype of its
    input, zeros where the value does not depend on it, and memory of its own; so has the value, and nothing written to it
    or to the inputs later changes what the pullback gives. Arrays give arrays; variables give variables, and where one
    of them requires grad, both the value and the gradients can be differentiated again.
    Raises TypeError for an input that is not of floating point, RuntimeError where fn wrote to one, ValueError for a
    cotangent of the wrong shape.
    """
    nested = any(isinstance(x, Variable) for x in inputs)
    leaves = [
        _make_alias(x)
        if isinstance(x, Variable)
        else variable_class(variable_class.copy_with_layout(x), requires_grad=True)
        for x in inputs
    ]
    with set_grad_enabled(True):
        value = fn(*leaves)
    for x, leaf in zip(inputs, leaves, strict=True):
        if not isinstance(x, Variable) and is_changed(leaf.data, x):
            raise RuntimeError(f"{getattr(fn, '__name__', fn)} or one of its ops wrote to an input")

    def pullback(g: Array) -> tuple[Array, ...]:
        differentiable = isinstance(g, Variable) or any(x._parents for x in leaves)
        found: dict[int, tuple[Variable, Array]] = {}
        if isinstance(value, Variable) and value.requires_grad:
            ends = frozenset(x._sequence_nr for x in leaves)
            found = _compute_gradients(
                value, _start_cotangent(value, g, differentiable), differentiable, ends
            )
        gradients = [
            found[x._sequence_nr][1] if x._sequence_nr in found else np.zeros_like(x.data) for x in leaves
        ]
        return tuple(_wrap(variable_class, d) if nested else d for d in gradients)

    return (copy_writable(value.data) if isinstance(value, Variable) and not nested else value), pullback


def _compute_gradients(
    root: Variable, g: Array, create_graph: bool, inputs: frozenset[int] = frozenset()
) -> dict[int, tuple[Variable, Array]]:
    """What `pull` finds, each gradient in memory of its own."""
    found = run_backward(root, g, create_graph, inputs)
    return {
        key: (a[0], a[1] if a[2] or is_sole_reference(a, 1) else _copy_cotangent(a[1]))
        for key, a in found.items()
    }


def _start_cotangent(root: Variable, g: Array, create_graph: bool) -> Array:
    """The cotangent to start from, a Variable where the pass is to be recorded."""
    g = as_cotangent(g if create_graph else _unwrap(g), root.data)
    return type(root)(g) if create_graph and not isinstance(g, Variable) else g


def _unwrap(x: Any) -> Any:
    """The array of a variable; anything else as it is."""
    return x.data if isinstance(x, Variable) else x


def _make_alias(x: Variable) -> Variable:
    """A variable of the same data one step younger than x, through which cotangents reach x."""
    alias = type(x)(x.data, requires_grad=True)
    if x.requires_grad:
        alias._pullbacks = _identity(x.data)[1]
        alias._parents, alias._gradient_shape_dtype, alias._rule_call = (x,), UNKNOWN_SHAPE_DTYPE, _identity
    return alias


def _identity(x: Array) -> tuple[Array, tuple[Pullback]]:
    return x, (lambda g: g,)


def _copy_cotangent(g: Array) -> Array:
    """The cotangent g in memory of its own; a recorded g stays on the record."""
    if not isinstance(g, Variable):
        return copy_writable(g)
    own = _make_alias(g)
    own.data = g.data.copy()
    return own


def _wrap(kind: type[Variable], g: Array) -> Any:
    return g if isinstance(g, Variable) else kind(as_array(g))
