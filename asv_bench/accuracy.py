"""The largest error of value and gradients of every op, in every dtype; 1 is what the judge allows.

The calls and the numbers are the same each time, so a change in the series is a change of the code.
"""

from asv_runner.benchmarks.mark import SkipNotImplemented

from asv_bench.measuring.numerical_errors import measure_worst_error
from asv_bench.workloads.ops_and_backends import (
    BACKENDS,
    get_backend,
    get_implementation,
    get_op,
    make_benchmark_classes,
)

DTYPES = ("float64", "float32", "bfloat16", "float16")


class _OpBenchmark:
    """The same calls for every backend and dtype."""

    op: str
    version = "1"
    params = (BACKENDS, DTYPES)
    param_names = ("backend", "dtype")
    timeout = 120

    def setup(self, backend: str, dtype: str) -> None:
        self.backend, self.spec = get_backend(backend), get_op(self.op)
        get_implementation(self.backend, self.spec)
        if dtype not in self.backend.dtypes:
            raise SkipNotImplemented(f"{backend} is not verified in {dtype}")

    def track_worst_error(self, backend: str, dtype: str) -> float:
        """Return the largest error in units of what is allowed: the spec's rounding times a safety factor."""
        return measure_worst_error(self.backend, self.spec, dtype)

    track_worst_error.unit = "of what is allowed"  # type: ignore[attr-defined]


globals().update(make_benchmark_classes(__name__, _OpBenchmark))
