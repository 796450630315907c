"""Counters of what each op of the spec costs: calls, arrays, bytes.

`python -m asv_bench.measuring.op_costs` prints all costs as JSON; `tools/gate.py` compares those of two
commits.
"""

import gc
import json
import sys
from collections.abc import Callable
from typing import Any

from asv_bench.measuring.allocations import AllocationStats, count_allocations
from asv_bench.measuring.any_commit import pick_first_value
from asv_bench.workloads.calls import make_arrays, make_cotangent, make_typical_call
from gradspec.backends import call
from gradspec.reference import OPS, Op, Tensor

# There a temporary array shows beside single numbers, and counting is fast.
COUNTED_SIZE = "cache"

DIRECTIONS = ("forward", "backward")

PassFunction = Callable[[], Any]


def make_passes(op: Op, size: str) -> tuple[PassFunction, Callable[[Any], PassFunction]]:
    """Return the forward pass of an op on the tape, and a function from its value to the backward pass."""
    typical = make_typical_call(op, size)
    inputs = make_arrays(op, typical, "float32", seed=0)
    differentiable = op.differentiable_arguments(len(inputs))
    tensors = [Tensor(x, requires_grad=True) if i in differentiable else x for i, x in enumerate(inputs)]

    def make_backward(value: Any) -> PassFunction:
        g = make_cotangent(value.data)
        return lambda: value.backward(g)

    return (lambda: call(op, OPS[op.name].apply, tensors, typical.keywords)), make_backward


def count_calls(run: PassFunction) -> int:
    """Count the calls of Python functions and of built-in ones; those of ufuncs and operators do not show."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    previous = sys.getprofile()
    # Callbacks of the garbage collector would be counted as well.
    gc.disable()
    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(previous)
        gc.enable()
    return calls - 1  # the second call of setprofile


def measure_allocations(run: PassFunction) -> AllocationStats:
    """Count the arrays that NumPy allocates."""
    with count_allocations() as stats:
        result = run()
    del result
    return stats


COUNTER_BY_COST: dict[str, Callable[[PassFunction], int]] = {
    "calls": count_calls,
    "arrays": lambda run: measure_allocations(run).array_count,
    "bytes": lambda run: measure_allocations(run).total_nbytes,
    "peak": lambda run: measure_allocations(run).peak_nbytes,
}


def measure_cost(op: Op, cost_name: str, direction: str, size: str = COUNTED_SIZE) -> int:
    """Measure one cost of an op's forward or backward pass, in the second run, when caches are filled."""
    for measure in (lambda run: run(), COUNTER_BY_COST[cost_name]):
        # New tensors each time, so that no gradient is added to an earlier one.
        forward, backward = make_passes(op, size)
        result = measure(forward if direction == "forward" else backward(forward()))
    return int(result)


def measure_all_costs() -> dict[str, int]:
    """Measure all costs, by names such as "tanh forward calls"."""
    return {
        f"{name} {direction} {cost_name}": measure_cost(op, cost_name, direction)
        for name, op in sorted((name, pick_first_value(op)) for name, op in OPS.items())
        for direction in (DIRECTIONS if op.differentiable else DIRECTIONS[:1])
        for cost_name in COUNTER_BY_COST
    }


if __name__ == "__main__":
    json.dump(measure_all_costs(), sys.stdout, indent=1)
