"""What each op costs that is the same on every machine: calls, arrays, bytes. Of the spec, whose code is gradspec's own."""

from asv_runner.benchmarks.mark import SkipNotImplemented

from asv_bench.measuring.op_costs import DIRECTIONS, measure_cost
from asv_bench.workloads.ops_and_backends import get_op, make_benchmark_classes


class _OpBenchmark:
    """Counted at 64 KiB: the second time, when caches are filled."""

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
        """Calls of Python functions and of built-in ones, for one call of the op on the tape or one backward pass."""
        return self._measure_cost("calls", direction)

    def track_arrays(self, direction: str) -> int:
        """Arrays allocated."""
        return self._measure_cost("arrays", direction)

    def track_bytes(self, direction: str) -> int:
        """Bytes of all arrays allocated, most of which are written once and read once."""
        return self._measure_cost("bytes", direction)

    def track_peak(self, direction: str) -> int:
        """The most bytes of new arrays at one time."""
        return self._measure_cost("peak", direction)

    track_calls.unit = "calls"  # type: ignore[attr-defined]
    track_arrays.unit = "arrays"  # type: ignore[attr-defined]
    track_bytes.unit = track_peak.unit = "bytes"  # type: ignore[attr-defined]


globals().update(make_benchmark_classes(__name__, _OpBenchmark))
