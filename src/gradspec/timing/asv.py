"""The base of benchmarks of an op in somebody's own asv suite.

    from gradspec.timing.asv import OpBenchmark

    class RmsNorm(OpBenchmark):
        op, backend, against = "rms_norm", "my_kernels:backend", ("torch",)

A subclass has `time_forward` and `time_backward`, in seconds, and `track_forward_ratio` and
`track_backward_ratio`, how many times as long the backend takes as the spec, or as another one, in turns.
Times are those of a machine on its day; ratios stay the same when it is busy.
"""

from collections.abc import Callable
from typing import Any

from gradspec.backends import Backend, Unavailable, load
from gradspec.backends.addresses import find_op
from gradspec.reference import Op
from gradspec.timing.calls import SIZES
from gradspec.timing.cells import SPEC, Cell, Side, TimedCall


class OpBenchmark:
    """An op of a backend at three sizes; where it disagrees with the spec, its benchmarks fail and say where.

    asv finds benchmarks by their names in whatever class a module has, this one among them where it is
    imported. So it has none itself: a subclass gets them once it names its op and backend.

    Attributes:
        op: The op, by name or address.
        backend: The name of the backend, or module:attribute.
        against: The names of other backends to compare with; the spec always is.
        dtype: The dtype of its floats.
        seconds: How long one pass is measured.
    """

    op: str
    backend: str
    against: tuple[str, ...] = ()
    dtype = "float32"
    seconds = 0.2

    version = "1"  # raised when, and only when, what is measured changes
    timeout = 300
    params: tuple[tuple[str, ...], ...]
    param_names = ("size", "beside")
    # asv compares by ranks: with 7 processes, one pair of equal times in 858 looks different by chance.
    rounds = 7
    repeat = 1
    number = 1
    warmup_time = 0  # what measures warms up
    _elapsed_seconds = 0.0
    _call: TimedCall | None = None

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if hasattr(cls, "op") and hasattr(cls, "backend"):
            cls.params = (SIZES, (SPEC, *cls.against))
            for benchmark in BENCHMARKS:
                setattr(cls, benchmark.__name__, benchmark)

    def setup(self, size: str, beside: str | None = None) -> None:
        """Check the results and make the passes ready; n/a where a backend cannot run or offers no such op.

        Raises:
            NotTimed: Where backend and spec disagree.
            NotImplementedError: Which asv takes for n/a.
        """
        if self._call is not None:  # asv sets up again before it times
            return
        sides = [_load_side(self.backend)]
        if beside is not None:
            sides.append(Side(SPEC, None) if beside == SPEC else _load_side(beside))
        op = _find_op(sides[0].backend, self.op)
        for side in sides:
            if not side.offers(op):
                raise NotImplementedError(f"{side.label} does not offer {self.op}")
        self._call = TimedCall(op, size, self.dtype, sides)
        if beside in self._call.complaints:
            raise NotImplementedError(f"{beside}: {self._call.complaints[beside]}")

    def timer(self) -> float:
        """Return the seconds of all that was measured: what passes between two readings is asv's result."""
        return self._elapsed_seconds

    def _measure(self, direction: str) -> Cell:
        assert self._call is not None
        if direction not in self._call.directions:
            from asv_runner.benchmarks.mark import SkipNotImplemented

            raise SkipNotImplemented(f"{self.op} is not differentiable")
        return self._call.measure(direction, self.seconds)


def _find_op(backend: Backend | None, name: str) -> Op:
    """Return the op of this address, or of this name among those that the backend offers."""
    offered = backend.ops if backend else ()
    alike = (address for address in offered if address.rpartition(":")[2] == name)
    return find_op(name if name in offered else next(alike, name))


def _load_side(name: str) -> Side:
    try:
        return Side(name, load(name))
    except Unavailable as reason:
        raise NotImplementedError(str(reason)) from reason


def _make_time_benchmark(direction: str) -> Callable[..., Any]:
    def benchmark(self: OpBenchmark, size: str) -> None:
        cell = self._measure(direction)
        self._elapsed_seconds += cell.get_seconds(cell.first).median

    benchmark.__name__, benchmark.__doc__ = f"time_{direction}", f"Time the {direction} pass."
    benchmark.params, benchmark.param_names = (SIZES,), ("size",)  # type: ignore[attr-defined]
    return benchmark


def _make_ratio_benchmark(direction: str) -> Callable[..., Any]:
    def benchmark(self: OpBenchmark, size: str, beside: str) -> dict[str, Any]:
        cell = self._measure(direction)
        return {"samples": cell.get_ratios([*cell.samples][-1]), "number": 1}

    benchmark.__name__ = f"track_{direction}_ratio"
    benchmark.__doc__ = f"Return how many times as long the {direction} pass takes as that beside it."
    benchmark.unit = "times as long"  # type: ignore[attr-defined]
    return benchmark


BENCHMARKS = [
    make(direction)
    for make in (_make_time_benchmark, _make_ratio_benchmark)
    for direction in ("forward", "backward")
]
"""What asv finds in a subclass."""
