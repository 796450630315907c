"""What each op costs that is the same on every machine: calls, arrays, bytes. Of the spec, whose code is gradspec's own.

`python -m asv_bench.measuring.op_costs` prints them as JSON, for `gate` to compare two commits by.
"""

import gc
import json
import sys
from collections.abc import Callable
from typing import Any

from asv_bench.measuring.allocations import AllocationStats, count_allocations
from asv_bench.workloads.calls import make_arrays, make_cotangent, make_typical_call
from gradspec.backends import call
from gradspec.reference import OPS, Op, Tensor

COUNTED_SIZE = "cache"  # where a temporary array is told from a number, and counting takes no time

DIRECTIONS = ("forward", "backward")

PassFunction = Callable[[], Any]


def make_passes(op: Op, size: str) -> tuple[PassFunction, Callable[[Any], PassFunction]]:
    """The forward pass of an op on the tape; and, from its value, the backward pass."""
    chosen = make_typical_call(op, size)
    inputs = make_arrays(op, chosen, "float32", seed=0)
    free = op.differentiable_arguments(len(inputs))
    tensors = [Tensor(x, requires_grad=True) if i in free else x for i, x in enumerate(inputs)]

    def make_backward(value: Any) -> PassFunction:
        g = make_cotangent(value.data)
        return lambda: value.backward(g)

    return (lambda: call(op, op.apply, tensors, chosen.keywords)), make_backward


def count_calls(run: PassFunction) -> int:
    """Calls of Python functions and of built-in ones; those of ufuncs and operators are not seen."""
    seen = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal seen
        seen += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()  # whose callbacks would be counted as well
    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(before)
        gc.enable()
    return seen - 1  # the second call of setprofile


def measure_allocations(run: PassFunction) -> AllocationStats:
    """The arrays that NumPy allocates."""
    with count_allocations() as found:
        kept = run()
    del kept
    return found


COUNTER_BY_COST: dict[str, Callable[[PassFunction], int]] = {
    "calls": count_calls,
    "arrays": lambda run: measure_allocations(run).array_count,
    "bytes": lambda run: measure_allocations(run).total_nbytes,
    "peak": lambda run: measure_allocations(run).peak_nbytes,
}


def measure_cost(op: Op, cost_name: str, direction: str, size: str = COUNTED_SIZE) -> int:
    """One cost of the forward or the backward pass of an op, done once before for caches to be filled."""
    for measure in (lambda run: run(), COUNTER_BY_COST[cost_name]):
        forward, backward = make_passes(op, size)  # of new tensors, whose gradients are not added to others
        found = measure(forward if direction == "forward" else backward(forward()))
    return int(found)


def measure_all_costs() -> dict[str, int]:
    """All of them, by op, direction and what they are."""
    return {
        f"{name} {direction} {what}": measure_cost(op, what, direction)
        for name, op in sorted(OPS.items())
        for direction in (DIRECTIONS if op.differentiable else DIRECTIONS[:1])
        for what in COUNTER_BY_COST
    }


if __name__ == "__main__":
    json.dump(measure_all_costs(), sys.stdout, indent=1)
