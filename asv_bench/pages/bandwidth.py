"""The least that an op has to read and write, against how fast memory is."""

import math
from collections.abc import Mapping

from asv_bench.pages.results import Point
from asv_bench.workloads.calls import ELEMENTS_BY_SIZE, is_contraction, make_typical_call
from gradspec.reference import OPS
from gradspec.reference.cases import IntegersBelow

MULTIPLICATION_BYTES = (
    3 * 4 * ELEMENTS_BY_SIZE["memory"]
)  # bytes: two arrays of float32 are read and one is written


def compute_bandwidth_share(
    point: Point, direction: str, undisturbed_times: Mapping[str, float]
) -> float | None:
    """The bandwidth that a time on 16 MiB amounts to, as a share of that of a multiplication on the same backend.

    None for products of matrices, which memory does not limit, for what only makes a view, and where that multiplication has
    not been timed on this machine.
    """
    op, multiplication = (
        OPS.get(point.benchmark_class),
        undisturbed_times.get(f"{point.parameters[0]} memory"),
    )
    if op is None or multiplication is None or is_contraction(op) or point.value < multiplication / 50:
        return None
    return (
        count_least_bytes(point.benchmark_class, direction)
        / point.value
        / (MULTIPLICATION_BYTES / multiplication)
    )


def count_least_bytes(name: str, direction: str) -> int:
    """Every argument once and the value once; backward the cotangent once and every gradient once."""
    op = OPS[name]
    call = make_typical_call(op, "memory")
    free = op.differentiable_arguments(len(call.shapes))
    shapes = [s.shape if isinstance(s, IntegersBelow) else s for s in call.shapes]
    value = math.prod(max(shapes, key=math.prod)) if op.elementwise else 0
    read = [math.prod(s) for i, s in enumerate(shapes) if direction == "forward" or i in free]
    return 4 * (sum(read) + value)
