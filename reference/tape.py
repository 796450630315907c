"""The tape: reverse-mode differentiation of any program made of recorded rules.

A rule computes a value and one pullback per array argument. `record` turns a rule into an op that takes arrays or
`Variable`s; `Variable.backward` and `vjp` walk the record from the youngest variable to the oldest. The tape knows no
op and no array library: of an array it asks for `shape`, `dtype`, `ndim`, `size`, `+`, `astype` and `copy`, and that
NumPy's `sum`, `ones_like` and `zeros_like` know it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from heapq import heappop, heappush
from itertools import count
from typing import Any, Self

import numpy as np
from numpy import ndarray

from gradspec.reference import writes

Array = Any
"""An array of the library the rules are written for; a `Variable` where a pullback is itself recorded."""

Pullback = Callable[[Array], Array]
"""Maps the cotangent of a value to the cotangent of one argument, before the sum over broadcast axes."""

VJP = tuple[Array, tuple[Pullback | None, ...] | Callable[[Array], tuple[Array, ...]] | None]
"""What a rule returns: its value, and a pullback per argument (None for an argument without a gradient), or one function
that returns every gradient at once, or None where the op is not differentiable at all."""

Node = tuple[Callable[..., VJP], tuple[Any, ...], dict[str, Any], Any]
"""How a value came about: rule, arguments, keywords, pullbacks."""

clock = count(1).__next__
_new = object.__new__
_no_keywords: dict[str, Any] = {}
_tracking: ContextVar[bool] = ContextVar("tracking", default=True)


@contextmanager
def no_grad(*, tracking: bool = False) -> Iterator[None]:
    """Within this context nothing is recorded and results do not require grad; an exception ends it as well."""
    token = _tracking.set(tracking)
    try:
        yield
    finally:
        _tracking.reset(token)


def is_tracking() -> bool:
    """Whether ops are recorded at this point: False within `no_grad`."""
    return _tracking.get()


class Variable:
    """An array on the tape: at once a tensor and the node that says how it came about.

    data: the array. requires_grad: whether a backward pass carries a cotangent here. grad: on a leaf, the gradient
    accumulated so far, a variable of the shape and dtype of `data`, or None.
    """

    __slots__ = ("_node", "_order", "data", "grad", "requires_grad")

    data: Array
    requires_grad: bool
    grad: Self | None
    _order: int  # when it was made: whatever consumes it is younger
    _node: Node | None

    def __init__(self, data: Array, requires_grad: bool = False) -> None:
        self.data = data
        self.requires_grad = False
        self.grad = None
        self._node = None
        self._order = clock()
        if requires_grad:
            self.requires_grad_()

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made it. Leaves are where `backward` leaves gradients."""
        return self._node is None

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask for the gradient of a leaf, or no longer; returns the variable itself.

        Raises TypeError for an array that is not of floating point, ValueError for the result of a recorded op.
        """
        if self._node is not None and not requires_grad:
            raise ValueError(
                "the result of a recorded op always requires grad; detach() gives one that does not"
            )
        if requires_grad and np.dtype(self.data.dtype).kind in "biu":
            raise TypeError(
                f"only floating-point arrays have gradients; this one has dtype {self.data.dtype}"
            )
        if requires_grad and not self.requires_grad:
            self._order = clock()  # what was computed from it until now does not depend on it
        self.requires_grad = requires_grad
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
    with no_grad(tracking=True):
        value = fn(*leaves)

    def pullback(g: Array) -> tuple[Array, ...]:
        differentiable = isinstance(g, Variable) or any(x._node is not None for x in leaves)
        found: dict[int, tuple[Variable, Array]] = {}
        if isinstance(value, Variable) and value.requires_grad:
            found = _pull(value, _seed(value, g, differentiable), differentiable, {x._order for x in leaves})
        gradients = [found[x._order][1] if x._order in found else np.zeros_like(x.data) for x in leaves]
        return tuple(_wrap(kind, d) if nested else d for d in gradients)

    return (value.data if isinstance(value, Variable) and not nested else value), pullback


def record(rule: Callable[..., VJP]) -> Callable[..., Any]:
    """An op from a rule: arrays give an array; a `Variable` among them gives a `Variable` that remembers the rule.

    Positional arguments are array data or Python numbers, keywords are metadata. A rule written `def rule(*xs)` makes
    an op that takes its arrays as one sequence, as `concat` does in the Array API standard.
    """
    variadic = bool(rule.__code__.co_flags & 0x04)  # CO_VARARGS: the rule is written with *xs

    @wraps(rule)
    def op(*args: Any, **kwargs: Any) -> Any:
        if variadic:
            args = tuple(args[0])
        kind = None
        requires_grad = False
        arrays = []
        for x in args:
            if isinstance(x, Variable):
                kind = type(x)
                requires_grad = requires_grad or x.requires_grad
                arrays.append(x.data)
            else:
                arrays.append(x)
        value, pullbacks = rule(*arrays, **kwargs)
        return value if kind is None else _result(kind, value, requires_grad, (rule, args, kwargs, pullbacks))

    if (rule.__code__.co_argcount, variadic, rule.__code__.co_kwonlyargcount, rule.__defaults__) != (
        2,
        False,
        0,
        None,
    ):
        return op

    @wraps(rule)
    def operator(x: Any, y: Any) -> Any:
        """The same for just two arrays, as most operators have: on small arrays the loop costs as much as the work."""
        kind = None
        requires_grad = False
        a, b = x, y
        if isinstance(x, Variable):
            kind = type(x)
            requires_grad = x.requires_grad
            a = x.data
        if isinstance(y, Variable):
            kind = type(y)
            requires_grad = requires_grad or y.requires_grad
            b = y.data
        value, pullbacks = rule(a, b)
        return (
            value
            if kind is None
            else _result(kind, value, requires_grad, (rule, (x, y), _no_keywords, pullbacks))
        )

    return operator


def _result(kind: type[Variable], value: Array, requires_grad: bool, node: Node) -> Variable:
    """A new variable without the detour through __init__; it keeps the node where there is something to differentiate."""
    result = _new(kind)
    result.data = (
        value if type(value) is ndarray else np.asarray(value) if isinstance(value, np.generic) else value
    )
    result.grad = None
    result._order = clock()
    if requires_grad and node[3] is not None and _tracking.get():
        result.requires_grad = True
        result._node = node
    else:
        result.requires_grad = False
        result._node = None
    return result


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
        if variable._node is None or order in inputs:
            found[order] = variable, g if mine else _copy(g)
            continue
        rule, args, kwargs, pullbacks = variable._node
        if order < latest:
            _refuse_overwritten(variable, differentiable)
        try:
            if differentiable:
                pullbacks = _recorded(rule, args, kwargs)
            each = type(pullbacks) is tuple
            pulls = pullbacks if each else pullbacks(g)
            i = -1
            for x in args:
                i += 1  # a fifth of what enumerate costs where there are two
                if not isinstance(x, Variable) or not x.requires_grad:
                    continue
                key = x._order
                if not oldest <= key < order:
                    continue
                pull = pulls[i]
                if pull is None:  # an argument without a gradient
                    continue
                d = pull(g) if each else pull
                data = x.data
                if d.shape != data.shape:
                    d = unbroadcast(d, data.shape)
                if d.dtype != data.dtype:
                    d = d.astype(data.dtype)
                there = pending.get(key)
                if there is None:
                    pending[key] = [x, d, False]
                    heappush(heap, -key)
                elif there[2]:
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


def _recorded(rule: Callable[..., VJP], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The pullbacks of a rule run on its variables themselves, so that what they compute is recorded in turn."""
    with no_grad(tracking=True):
        inputs = (x if getattr(x, "requires_grad", False) else _unrecorded(x) for x in args)
        return rule(*inputs, **kwargs)[1]


def _refuse_overwritten(variable: Variable, differentiable: bool) -> None:
    """Raise RuntimeError if memory that the variable's pullbacks read was written to after they were made."""
    assert variable._node is not None
    rule, args, _, pullbacks = variable._node
    held = [pullbacks, *(x.data for x in args if differentiable and isinstance(x, Variable))]
    if writes.overwritten(held, variable._order):
        raise RuntimeError(
            f"an array that the pullback of {rule.__name__} needs was overwritten in place; compute from a clone() of it instead"
        )


def _alias(x: Variable) -> Variable:
    """A variable of the same data one step younger than x, through which cotangents reach x."""
    alias = type(x)(x.data)
    alias.requires_grad_()
    if x.requires_grad:
        alias._node = _identity, (x,), {}, _identity(x.data)[1]
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
