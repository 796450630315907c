"""What each op costs that is the same on every machine: calls, arrays, bytes. Of the spec, whose code is gradspec's own."""

from asv_runner.benchmarks.mark import SkipNotImplemented

from asv_bench.counted import DIRECTIONS, cost
from asv_bench.subjects import op_named, per_op


class _Op:
    """Counted at 64 KiB: the second time, when caches are filled."""

    op: str
    version = "1"
    params = DIRECTIONS
    param_names = ("direction",)

    def _cost(self, what: str, direction: str) -> int:
        op = op_named(self.op)
        if direction == "backward" and not op.differentiable:
            raise SkipNotImplemented(f"{self.op} is not differentiable")
        return cost(op, what, direction)

    def track_calls(self, direction: str) -> int:
        """Calls of Python functions and of built-in ones, for one call of the op on the tape or one backward pass."""
        return self._cost("calls", direction)

    def track_arrays(self, direction: str) -> int:
        """Arrays allocated."""
        return self._cost("arrays", direction)

    def track_bytes(self, direction: str) -> int:
        """Bytes of all arrays allocated, most of which are written once and read once."""
        return self._cost("bytes", direction)

    def track_peak(self, direction: str) -> int:
        """The most bytes of new arrays at one time."""
        return self._cost("peak", direction)

    track_calls.unit = "calls"  # type: ignore[attr-defined]
    track_arrays.unit = "arrays"  # type: ignore[attr-defined]
    track_bytes.unit = track_peak.unit = "bytes"  # type: ignore[attr-defined]


globals().update(per_op(__name__, _Op))
