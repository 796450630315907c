"""Benchmarks whose result is a time of `clock`, with asv's own statistics over it."""

from collections.abc import Callable
from typing import Any

from asv_bench.measuring.clock import measure_seconds
from gradspec.backends import Backend


class TimedBenchmark:
    """A base for classes of `time_` benchmarks: `self.measure(run, backend, size)` in one of them is its result.

    Each process measures once. Processes differ, too, if only in where their memory lies, so there are several, and they
    take turns with those of the other commit.
    """

    version = "2"  # what is measured has changed when this is raised, and only then
    timeout = 120
    rounds = 7  # asv then compares by ranks: of equal times one pair in 858 looks different by chance; of 4, one in 35
    repeat = 1
    number = 1
    warmup_time = 0  # `measure` warms up
    _elapsed_seconds = 0.0

    def timer(self) -> float:
        return self._elapsed_seconds

    def measure(self, run: Callable[[], Any], backend: Backend, size: str) -> None:
        self._elapsed_seconds += measure_seconds(run, backend, size)
