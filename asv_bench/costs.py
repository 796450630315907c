"""Calls, arrays and bytes of each op of the spec: costs that are the same on every machine.

Only the spec is counted: its code is gradspec's own.
"""

from asv_runner.benchmarks.mark import SkipNotImplemented

from asv_bench.measuring.op_costs import DIRECTIONS, measure_cost
from asv_bench.workloads.ops_and_backends import get_op, make_benchmark_classes


class _OpBenchmark:
    """Counted at 64 KiB, in the second run, when caches are filled."""

    op: str
    version = "1"
    params = DIRECTIONS
    param_names = ("direction",)

    def _measure_cost(self, cost_name: str, direction: str) -> int:
        op = get_op(self.op)
        if direction == "backward" and not op.differentiable:
            raise SkipNotImplemented(f"{self.op} is not differentiable")
        return measure_cost(op, cost_name, direction)

    def track_calls(self, direction: str) -> int:
        """Count the calls of Python and built-in functions in one call on the tape or one backward pass."""
        return self._measure_cost("calls", direction)

    def track_arrays(self, direction: str) -> int:
        """Count the arrays allocated."""
        return self._measure_cost("arrays", direction)

    def track_bytes(self, direction: str) -> int:
        """Count the bytes of all arrays allocated; most are written once and read once."""
        return self._measure_cost("bytes", direction)

    def track_peak(self, direction: str) -> int:
        """Return the most bytes that new arrays take at one time."""
        return self._measure_cost("peak", direction)

    track_calls.unit = "calls"  # type: ignore[attr-defined]
    track_arrays.unit = "arrays"  # type: ignore[attr-defined]
    track_bytes.unit = track_peak.unit = "bytes"  # type: ignore[attr-defined]


globals().update(make_benchmark_classes(__name__, _OpBenchmark))
