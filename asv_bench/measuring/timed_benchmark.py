"""The base of benchmarks whose result is an `undisturbed_time`; asv computes its own statistics from them."""

from collections.abc import Callable
from typing import Any

from asv_bench.measuring.undisturbed_time import measure_seconds
from gradspec.backends import Backend


class TimedBenchmark:
    """A base of classes whose `time_` methods each call `self.measure(run, backend, size)` for their result.

    Each process measures once. Processes differ too, if only in where their memory lies. So there are
    several, and they take turns with those of the other commit.
    """

    version = "2"  # raised when, and only when, what is measured changes
    timeout = 120
    # asv compares by ranks: with 7, one pair of equal times in 858 looks different by chance; with 4,
    # one in 35.
    rounds = 7
    repeat = 1
    number = 1
    warmup_time = 0  # `measure` warms up
    _elapsed_seconds = 0.0

    def timer(self) -> float:
        return self._elapsed_seconds

    def measure(self, run: Callable[[], Any], backend: Backend, size: str) -> None:
        self._elapsed_seconds += measure_seconds(run, backend, size)
