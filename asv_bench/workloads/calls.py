"""The typical calls and arrays of `gradspec.timing`, for benchmarks that run at every commit."""

from asv_bench.measuring import any_commit  # first: it gives older commits the names of today
from gradspec.timing.calls import (
    ELEMENTS_BY_SIZE,
    SIZES,
    Array,
    is_contraction,
    make_arrays,
    make_cotangent,
    make_typical_call,
)

__all__ = [
    "ELEMENTS_BY_SIZE", "SIZES", "Array", "any_commit", "is_contraction", "make_arrays", "make_cotangent",
    "make_typical_call",
]  # fmt: skip
