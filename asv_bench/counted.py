"""What each op costs that is the same on every machine: calls, arrays, bytes. Of the spec, whose code is gradspec's own.

`python -m asv_bench.counted` prints them as JSON, for `gate` to compare two commits by.
"""

import gc
import json
import sys
from collections.abc import Callable
from typing import Any

from asv_bench.allocations import Allocated, allocations
from asv_bench.calls import arrays, cotangent, typical
from gradspec.backends import call
from gradspec.reference import OPS, Op, Tensor

SIZE = "cache"  # where a temporary array is told from a number, and counting takes no time

DIRECTIONS = ("forward", "backward")

Step = Callable[[], Any]


def steps(op: Op, size: str) -> tuple[Step, Callable[[Any], Step]]:
    """The forward pass of an op on the tape; and, from its value, the backward pass."""
    chosen = typical(op, size)
    inputs = arrays(op, chosen, "float32", seed=0)
    free = op.differentiable_arguments(len(inputs))
    tensors = [Tensor(x, requires_grad=True) if i in free else x for i, x in enumerate(inputs)]

    def backward(value: Any) -> Step:
        g = cotangent(value.data)
        return lambda: value.backward(g)

    return (lambda: call(op, op.apply, tensors, chosen.keywords)), backward


def counted_calls(run: Step) -> int:
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


def allocated(run: Step) -> Allocated:
    """The arrays that NumPy allocates."""
    with allocations() as found:
        kept = run()
    del kept
    return found


COSTS: dict[str, Callable[[Step], int]] = {
    "calls": counted_calls,
    "arrays": lambda run: allocated(run).arrays,
    "bytes": lambda run: allocated(run).nbytes,
    "peak": lambda run: allocated(run).peak,
}


def cost(op: Op, what: str, direction: str, size: str = SIZE) -> int:
    """One cost of the forward or the backward pass of an op, done once before for caches to be filled."""
    for measure in (lambda run: run(), COSTS[what]):
        forward, backward = steps(op, size)  # of new tensors, whose gradients are not added to others
        found = measure(forward if direction == "forward" else backward(forward()))
    return int(found)


def costs() -> dict[str, int]:
    """All of them, by op, direction and what they are."""
    return {
        f"{name} {direction} {what}": cost(op, what, direction)
        for name, op in sorted(OPS.items())
        for direction in (DIRECTIONS if op.differentiable else DIRECTIONS[:1])
        for what in COSTS
    }


if __name__ == "__main__":
    json.dump(costs(), sys.stdout, indent=1)
