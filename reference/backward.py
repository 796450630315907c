"""Carrying a cotangent back along the record, from the youngest variable to the oldest."""

from heapq import heappop, heappush
from typing import Any, Protocol

from gradspec.reference import inplace_writes
from gradspec.reference.arrays import unbroadcast
from gradspec.reference.grad_mode import set_grad_enabled
from gradspec.reference.rule import Array


class RecordedVariable(Protocol):
    """What the backward pass reads of a variable of the tape, as `tape.Variable` describes it."""

    @property
    def data(self) -> Array: ...

    _data: Array
    _parents: Any
    _sequence_nr: int
    _shape_dtype: object
    _pullbacks: Any
    _gradient_shape_dtype: object
    _rule_call: Any


CotangentSums = dict[int, list[Any]]
"""By the order of variables: the variable, the cotangent gathered so far, and whether that is an array of this pass alone."""

UNKNOWN_SHAPE_DTYPE: Any = object()
"""Of pullbacks that may return any shape and dtype. No variable has it, so each result is fitted."""


def run_backward(
    root: RecordedVariable, g: Array, create_graph: bool, inputs: frozenset[int]
) -> CotangentSums:
    """Carry the cotangent g of `root` back: the leaves reached (or the `inputs`, by their order), each with its own.

    Visits the youngest variable first. All consumers of a variable are younger than it, so its cotangent is complete
    when its turn comes: a heap of creation times takes the place of a topological sort, and nothing recurses. One
    parent of each variable is kept at hand, outside of the heap: most often it is the next to be visited.
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
                pullbacks = _as_pullbacks(pullbacks(g))
            i = -1
            for x in variable._parents:
                i += 1
                if x is None:  # the argument requires no gradient
                    continue
                key = x._sequence_nr
                if key > newest_input:
                    is_end = not x._parents
                elif key in inputs:
                    is_end = True
                else:  # older than the inputs, it does not depend on them
                    continue
                d = pullbacks[i]
                if d is None:  # the argument has no gradient
                    continue
                d = d(g)
                if x._shape_dtype is not shape_dtype:
                    d = _fit_to_argument(d, x._data)
                if is_end:
                    so_far = gradients.get(key)
                    if so_far is not None and so_far[2]:
                        so_far[1] += d
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


def _get_rule(variable: RecordedVariable) -> Any:
    call = variable._rule_call
    return call[0] if isinstance(call, tuple) else call


def _rerun_rule(variable: RecordedVariable) -> Any:
    """The pullbacks of a rule that is run again, on variables."""
    call = variable._rule_call
    rule, args, kwargs = call if isinstance(call, tuple) else (call, variable._parents, {})
    return rule(*args, **kwargs)[1]


def _as_pullbacks(gradients: tuple[Array | None, ...]) -> list[Any]:
    """Gradients that came all at once, as pullbacks."""
    return [None if d is None else lambda g, d=d: d for d in gradients]


def _fit_to_argument(d: Array, data: Array) -> Array:
    """The gradient d summed to the shape of its argument and in its dtype."""
    if d.shape != data.shape:
        d = unbroadcast(d, data.shape)
    return d if d.dtype == data.dtype else d.astype(data.dtype)


def _accumulate(sums: CotangentSums, x: RecordedVariable, d: Array, create_graph: bool) -> bool:
    """Add d to the cotangent of x; True if it is the first. In place only into a sum made here, which nobody else has."""
    there = sums.get(x._sequence_nr)
    if there is None:
        sums[x._sequence_nr] = [x, d, False]
        return True
    if there[2]:
        there[1] += d
    else:
        there[1] = there[1] + d
        there[2] = not create_graph
    return False


def _check_not_overwritten(variable: RecordedVariable, create_graph: bool) -> None:
    """Raise RuntimeError if memory that the pullbacks of a variable read was written to after they were made."""
    parents = variable._parents if create_graph else None
    needed = [variable._pullbacks, *(x.data for x in parents or () if x is not None)]
    if inplace_writes.was_overwritten(needed, variable._sequence_nr):
        raise RuntimeError(
            f"an array that the pullback of {_get_rule(variable).__name__} needs was overwritten in place; compute from a clone() of it"
        )
