"""The backward pass: carrying a cotangent back along the record, from the youngest variable to the oldest."""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, Protocol

from gradspec.reference import inplace_writes
from gradspec.reference.arrays import unbroadcast
from gradspec.reference.grad_mode import set_grad_enabled
from gradspec.reference.rule import Array


class RecordedVariable(Protocol):
    """What the backward pass reads of a variable of the tape; `tape.Variable` says what each attribute is."""

    @property
    def data(self) -> Array: ...

    _data: Array
    _parents: Any
    _sequence_nr: int
    _shape_dtype: object
    _pullbacks: Any
    _gradient_shape_dtype: object
    _rule_call: Any


# A list and not an object, which would cost a call for each.
CotangentSum = list[Any]
"""What has reached a variable so far: the variable, the sum of its cotangents, and whether that sum is an
array made by this pass, which nobody else has: it is added to in place."""

VARIABLE, COTANGENT, IS_OWN = range(3)
"""The places in a `CotangentSum`."""

CotangentSums = dict[int, CotangentSum]
"""The sums by the sequence numbers of their variables."""

UNKNOWN_SHAPE_DTYPE: Any = object()
"""The shape and dtype of pullbacks that may return any. No variable has it, so each result is fitted."""


def run_backward(
    root: RecordedVariable, g: Array, create_graph: bool, inputs: frozenset[int]
) -> CotangentSums:
    """Carry the cotangent g of `root` back to the leaves, or to the `inputs`, and return the sum at each.

    In pseudo-code:

        gradients, pending = {}, {root: g}
        while pending:
            variable = the youngest in pending
            g = pending.pop(variable)
            for argument, pullback in zip(variable.arguments, variable.pullbacks):
                if argument requires no grad, or is too old to depend on an input:
                    continue
                d = pullback(g), summed to the shape of argument and in its dtype
                sums = gradients if argument is a leaf or an input else pending
                if argument in sums:
                    sums[argument] += d
                else:
                    sums[argument] = d
        return gradients

    All consumers of a variable are younger than it, so its cotangent is complete when its turn comes: a heap
    of sequence numbers takes the place of a topological sort, and nothing recurses. What makes the function
    longer is speed: one argument of each variable stays out of the heap and the sums, since most often it is
    the next to be visited, and sums that this pass made are added to in place.

    Args:
        root: a variable that requires grad.
        g: its cotangent.
        create_graph: whether the pass itself is recorded; g is a variable then.
        inputs: the sequence numbers of the variables at which to stop; empty for all leaves.

    Raises:
        RuntimeError: if an array that a pullback needs was overwritten in place.
    """
    newest_input = max(inputs, default=0)
    latest_write = inplace_writes.latest_write_time
    gradients: CotangentSums = {}
    pending: CotangentSums = {}
    heap: list[int] = []
    pullbacks: Any
    if not root._parents or root._sequence_nr in inputs:
        return {root._sequence_nr: [root, g, False]}
    variable = root
    while True:
        pullbacks = variable._pullbacks
        shape_dtype = variable._gradient_shape_dtype
        if latest_write and variable._sequence_nr < latest_write:
            _check_not_overwritten(variable, create_graph)
        next_variable = next_cotangent = None
        try:
            if create_graph:
                with set_grad_enabled(True):
                    pullbacks = _rerun_rule(variable)
            if shape_dtype is UNKNOWN_SHAPE_DTYPE and type(pullbacks) is not tuple:
                pullbacks = _make_constant_pullbacks(pullbacks(g))
            i = -1
            for x in variable._parents:
                i += 1
                if x is None:  # the argument does not require grad
                    continue
                key = x._sequence_nr
                if key > newest_input:
                    is_end = not x._parents
                elif key in inputs:
                    is_end = True
                else:  # older than the inputs, it does not depend on them
                    continue
                pullback = pullbacks[i]
                if pullback is None:  # the op has no gradient with respect to this argument
                    continue
                d = pullback(g)
                if x._shape_dtype is not shape_dtype:
                    d = _fit_to_argument(d, x._data)
                if is_end:
                    so_far = gradients.get(key)
                    if so_far is not None and so_far[IS_OWN]:
                        so_far[COTANGENT] += d
                    else:
                        _accumulate(gradients, x, d, create_graph)
                elif next_variable is None and key not in pending:
                    next_variable = x
                    next_cotangent = d
                elif x is next_variable:
                    next_cotangent = next_cotangent + d
                elif _accumulate(pending, x, d, create_graph):
                    heappush(heap, -key)
        except Exception as error:
            error.add_note(f"in the backward pass of {_get_rule(variable).__name__}")
            raise
        if next_variable is not None:
            if not heap or next_variable._sequence_nr > -heap[0]:
                variable = next_variable
                g = next_cotangent
                continue
            _accumulate(pending, next_variable, next_cotangent, create_graph)
            heappush(heap, -next_variable._sequence_nr)
        if not heap:
            break
        variable, g, _ = pending.pop(-heappop(heap))
    return gradients


def depends_on_older(value: RecordedVariable, leaves: Sequence[RecordedVariable]) -> bool:
    """Return whether a value was computed from a variable that requires grad and is older than the leaves."""
    oldest = min((x._sequence_nr for x in leaves), default=0)
    waiting, seen = [value], set[int]()
    while waiting:
        x = waiting.pop()
        if x._sequence_nr < oldest and x._parents is not None:
            return True
        if x._sequence_nr > oldest and x._sequence_nr not in seen:
            seen.add(x._sequence_nr)
            waiting.extend(parent for parent in x._parents or () if parent is not None)
    return False


def _get_rule(variable: RecordedVariable) -> Any:
    call = variable._rule_call
    return call[0] if isinstance(call, tuple) else call


def _rerun_rule(variable: RecordedVariable) -> Any:
    """Return the pullbacks of the variable's rule, run again on variables."""
    call = variable._rule_call
    rule, args, kwargs = call if isinstance(call, tuple) else (call, variable._parents, {})
    return rule(*args, **kwargs)[1]


def _make_constant_pullbacks(gradients: tuple[Array | None, ...]) -> list[Any]:
    """Return pullbacks that return these gradients, which one function computed all at once."""
    return [None if d is None else lambda g, d=d: d for d in gradients]


def _fit_to_argument(d: Array, data: Array) -> Array:
    """Return the gradient d summed to the shape of its argument and in its dtype."""
    if d.shape != data.shape:
        d = unbroadcast(d, data.shape)
    return d if d.dtype == data.dtype else d.astype(data.dtype)


def _accumulate(sums: CotangentSums, x: RecordedVariable, d: Array, create_graph: bool) -> bool:
    """Add d to the cotangent of x, in place only if this pass made the sum; return whether d is the first."""
    so_far = sums.get(x._sequence_nr)
    if so_far is None:
        sums[x._sequence_nr] = [x, d, False]
        return True
    if so_far[IS_OWN]:
        so_far[COTANGENT] += d
    else:
        so_far[COTANGENT] = so_far[COTANGENT] + d
        so_far[IS_OWN] = not create_graph
    return False


def _check_not_overwritten(variable: RecordedVariable, create_graph: bool) -> None:
    """Raise RuntimeError if memory that the variable's pullbacks read was written to after they were made."""
    parents = variable._parents if create_graph else None
    needed = [variable._pullbacks, *(x.data for x in parents or () if x is not None)]
    if inplace_writes.was_overwritten(needed, variable._sequence_nr):
        raise RuntimeError(
            f"an array that the pullback of {_get_rule(variable).__name__} needs was overwritten in place; "
            "compute from a clone() of it"
        )
