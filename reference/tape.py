"""The tape: reverse-mode differentiation of any program made of recorded rules.

A rule computes a value and one pullback per array argument, an op made from it by `record` leaves both on the tape, and
`Variable.backward` and `vjp` walk the record from the youngest variable to the oldest. The tape knows no
op and no array library: of an array it asks for `shape`, `dtype`, `ndim`, `size`, `+`, `astype` and `copy`, and that
NumPy's `sum`, `ones_like` and `zeros_like` know it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count
from typing import Any, Self

import numpy as np

from gradspec.reference import writes

Array = Any
"""An array of the library the rules are written for; a `Variable` where a pullback is itself recorded."""

Pullback = Callable[[Array], Array]
"""Maps the cotangent of a value to the cotangent of one argument, before the sum over broadcast axes."""

VJP = tuple[Array, tuple[Pullback | None, ...] | Callable[[Array], tuple[Array, ...]] | None]
"""What a rule returns: its value, and a pullback per argument (None for an argument without a gradient), or one function
that returns every gradient at once, or None where the op is not differentiable at all."""

Node = tuple[Any, tuple["Variable | None", ...], Callable[..., VJP], tuple[Any, ...], dict[str, Any]]
"""How a value came about: pullbacks; those of the arguments that require grad, None for the others; and, to run it again,
the rule with all its arguments and keywords."""

LEAF: Any = ()
"""The node of a variable that requires grad and that no op made."""

clock = count(1).__next__
tracking: ContextVar[bool] = ContextVar("tracking", default=True)


@contextmanager
def no_grad(*, tracking_on: bool = False) -> Iterator[None]:
    """Within this context nothing is recorded and results do not require grad; an exception ends it as well."""
    token = tracking.set(tracking_on)
    try:
        yield
    finally:
        tracking.reset(token)


def is_tracking() -> bool:
    """Whether ops are recorded at this point: False within `no_grad`."""
    return tracking.get()


class Variable:
    """An array on the tape: at once a tensor and the node that says how it came about.

    data: the array. requires_grad: whether a backward pass carries a cotangent here. grad: on a leaf, the gradient
    accumulated so far, a variable of the shape and dtype of `data`, or None.
    """

    __slots__ = ("_grad", "_node", "_order", "data")

    data: Array
    _order: int  # when it was made: whatever consumes it is younger
    _node: Node | None  # None where nothing is to be differentiated
    _grad: Self | None  # set on leaves only

    def __init__(self, data: Array, requires_grad: bool = False) -> None:
        self.data = data
        self._order = clock()
        self._node = None
        if requires_grad:
            self.requires_grad_()

    @property
    def grad(self) -> Self | None:
        return getattr(self, "_grad", None)

    @grad.setter
    def grad(self, grad: Self | None) -> None:
        self._grad = grad

    @property
    def requires_grad(self) -> bool:
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self.requires_grad_(requires_grad)

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made it. Leaves are where `backward` leaves gradients."""
        return not self._node

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask for the gradient of a leaf, or no longer; returns the variable itself. What was computed before stays.

        Raises TypeError for an array that is not of floating point, ValueError for the result of a recorded op.
        """
        if self._node and not requires_grad:
            raise ValueError(
                "the result of a recorded op always requires grad; detach() gives one that does not"
            )
        if requires_grad and np.dtype(self.data.dtype).kind in "biu":
            raise TypeError(
                f"only floating-point arrays have gradients; this one has dtype {self.data.dtype}"
            )
        self._node = (self._node or LEAF) if requires_grad else None
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
        gradients = _pull(
            self, _seed(self, end_grad, create_graph), create_graph
        )  # all of them, before any is stored
        for leaf, g in gradients.values():
            if leaf.grad is not None:
                g = (leaf.grad if create_graph else leaf.grad.data) + g
            leaf.grad = _wrap(type(leaf), g)


def vjp(
    fn: Callable[..., Any], *inputs: Array, kind: type[Variable] = Variable
) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
    """The value of `fn` at `inputs` and its pullback: `pullback(g)` is a tuple with one gradient per input.

    `fn` is any composition of recorded ops; g has the shape of the value. Each gradient has the shape and dtype of its
    input, zeros where the value does not depend on it, and memory of its own. Arrays give arrays; variables give
    variables, and where one of them requires grad, both the value and the gradients can be differentiated again.
    Raises TypeError for an input that is not of floating point, ValueError for a cotangent of the wrong shape.
    """
    nested = any(isinstance(x, Variable) for x in inputs)
    leaves = [_alias(x) if isinstance(x, Variable) else kind(x, requires_grad=True) for x in inputs]
    with no_grad(tracking_on=True):
        value = fn(*leaves)

    def pullback(g: Array) -> tuple[Array, ...]:
        differentiable = isinstance(g, Variable) or any(x._node for x in leaves)
        found: dict[int, tuple[Variable, Array]] = {}
        if isinstance(value, Variable) and value.requires_grad:
            found = _pull(value, _seed(value, g, differentiable), differentiable, {x._order for x in leaves})
        gradients = [found[x._order][1] if x._order in found else np.zeros_like(x.data) for x in leaves]
        return tuple(_wrap(kind, d) if nested else d for d in gradients)

    return (value.data if isinstance(value, Variable) and not nested else value), pullback


def _pull(
    root: Variable, g: Array, differentiable: bool, inputs: frozenset[int] | set[int] = frozenset()
) -> dict[int, tuple[Variable, Array]]:
    """Carry the cotangent g of `root` back: the leaves reached (or the `inputs`, by their order), each with its own.

    Visits the youngest variable first. All consumers of a variable are younger than it, so its cotangent is complete
    when its turn comes: a heap of creation times takes the place of a topological sort, and nothing recurses.
    """
    oldest = min(inputs, default=0)  # what is older than every input does not depend on any
    latest = writes.latest
    found: dict[int, tuple[Variable, Array]] = {}
    pending: dict[int, list[Any]] = {root._order: [root, g, False]}
    heap = [-root._order]
    while heap:
        order = -heappop(heap)
        # mine: the cotangent is an array of this pass alone, and may be added to in place
        variable, g, mine = pending.pop(order)
        node = variable._node
        if not node or order in inputs:
            found[order] = variable, g if mine else _copy(g)
            continue
        pullbacks, parents, rule, args, kwargs = node
        if order < latest:
            _refuse_overwritten(node, order, differentiable)
        try:
            if differentiable:
                pullbacks = _recorded(rule, parents, args, kwargs)
            each = type(pullbacks) is tuple
            for x, pull in zip(parents, pullbacks if each else pullbacks(g)):  # noqa: B905 - one each, as declared
                if x is None or pull is None:  # an argument that does not require a gradient, or has none
                    continue
                key = x._order
                if key < oldest:
                    continue
                d = pull(g) if each else pull
                data = x.data
                if d.shape != data.shape:
                    d = unbroadcast(d, data.shape)
                if d.dtype is not data.dtype and d.dtype != data.dtype:
                    d = d.astype(data.dtype)
                if key not in pending:
                    pending[key] = [x, d, False]
                    heappush(heap, -key)
                    continue
                there = pending[key]
                if there[2]:
                    there[1] += d
                else:
                    there[1] = there[1] + d
                    there[2] = not differentiable
        except Exception as error:
            error.add_note(f"in the backward pass of {rule.__name__}")
            raise
    return found


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum g over the axes along which an argument of this shape was broadcast; the result has the shape.

    The one place where broadcasting is undone. Raises ValueError where no broadcast leads from the shape to that of g.
    """
    lead = g.ndim - len(shape)
    stretched = tuple(i for i, n in enumerate(shape, lead) if n == 1 != g.shape[i]) if lead >= 0 else ()
    if lead < 0 or any(n != g.shape[i] and n != 1 for i, n in enumerate(shape, lead)):
        raise ValueError(
            f"a pullback returned a gradient of shape {g.shape} for an argument of shape {shape}"
        )
    total = np.add.reduce if type(g) is np.ndarray else np.sum  # the same sum, half the overhead
    g = total(g, axis=(*range(lead), *stretched), keepdims=True)
    return g.reshape(shape)


def _seed(root: Variable, g: Array, differentiable: bool) -> Array:
    """The cotangent to start from: of the shape and dtype of `root`, a Variable where the pass is to be recorded."""
    if g is None:
        if root.data.size != 1:
            raise ValueError(
                f"backward() needs a cotangent for a value of shape {root.data.shape}; only one element has a default, 1"
            )
        g = np.ones_like(root.data)
    if not differentiable:
        g = _unrecorded(g)
    if not hasattr(g, "dtype"):
        g = np.asarray(g, root.data.dtype)
    if g.shape != root.data.shape:
        raise ValueError(
            f"the cotangent has shape {g.shape}, the value it belongs to {root.data.shape}; they must be the same"
        )
    if g.dtype != root.data.dtype:
        g = g.astype(root.data.dtype)
    return type(root)(g) if differentiable and not isinstance(g, Variable) else g


def _unrecorded(x: Any) -> Any:
    """The array of a variable; anything else as it is."""
    return x.data if isinstance(x, Variable) else x


def _recorded(
    rule: Callable[..., VJP], parents: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The pullbacks of a rule run on its variables themselves, so that what they compute is recorded in turn."""
    with no_grad(tracking_on=True):
        inputs = (_unrecorded(x) if p is None else p for p, x in zip(parents, args, strict=True))
        return rule(*inputs, **kwargs)[1]


def _refuse_overwritten(node: Node, since: int, differentiable: bool) -> None:
    """Raise RuntimeError if memory that the node's pullbacks read was written to after they were made."""
    pullbacks, parents, rule, _, _ = node
    if writes.overwritten([pullbacks, *(x.data for x in parents if differentiable and x is not None)], since):
        raise RuntimeError(
            f"an array that the pullback of {rule.__name__} needs was overwritten in place; compute from a clone() of it"
        )


def _alias(x: Variable) -> Variable:
    """A variable of the same data one step younger than x, through which cotangents reach x."""
    alias = type(x)(x.data, requires_grad=True)
    if x.requires_grad:
        alias._node = _identity(x.data)[1], (x,), _identity, (x,), {}
    return alias


def _identity(x: Array) -> VJP:
    return x, (lambda g: g,)


def _copy(g: Array) -> Array:
    """The cotangent g in memory of its own; a recorded g stays on the record."""
    if not isinstance(g, Variable):
        return np.array(g) if isinstance(g, np.generic) else g.copy()
    own = _alias(g)
    own.data = g.data.copy()
    return own


def _wrap(kind: type[Variable], g: Array) -> Any:
    return g if isinstance(g, Variable) else kind(np.asarray(g) if isinstance(g, np.generic) else g)
