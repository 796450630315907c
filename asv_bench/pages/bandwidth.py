"""The share of the memory's bandwidth that an op reaches, from the least it has to read and write."""

import math
from collections.abc import Mapping

from asv_bench.measuring.any_commit import IntegerArrayBelow
from asv_bench.pages.results import Point
from asv_bench.workloads.calls import ELEMENTS_BY_SIZE, is_contraction, make_typical_call
from gradspec.reference import OPS

# Two arrays of float32 are read and one is written.
MULTIPLICATION_BYTES = 3 * 4 * ELEMENTS_BY_SIZE["memory"]


def compute_bandwidth_share(
    point: Point, direction: str, undisturbed_times: Mapping[str, float]
) -> float | None:
    """Return the bandwidth of a time on 16 MiB, as a share of that of a multiplication on the same backend.

    None for products of matrices, which memory does not limit, for ops that only make a view, and where the
    multiplication has not been timed on this machine.
    """
    op = OPS.get(point.benchmark_class)
    multiplication = undisturbed_times.get(f"{point.parameters[0]} memory")
    if op is None or multiplication is None or is_contraction(op) or point.value < multiplication / 50:
        return None
    bandwidth = count_least_bytes(point.benchmark_class, direction) / point.value
    return bandwidth / (MULTIPLICATION_BYTES / multiplication)


def count_least_bytes(name: str, direction: str) -> int:
    """Count the bytes of each argument and the value; backward, of the cotangent and each gradient."""
    op = OPS[name]
    call = make_typical_call(op, "memory")
    differentiable = op.differentiable_arguments(len(call.shapes))
    shapes = [s.shape if isinstance(s, IntegerArrayBelow) else s for s in call.shapes]
    value = math.prod(max(shapes, key=math.prod)) if op.elementwise else 0
    read = [math.prod(s) for i, s in enumerate(shapes) if direction == "forward" or i in differentiable]
    return 4 * (sum(read) + value)
