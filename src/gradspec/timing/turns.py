"""Calls timed in turns, and the ratio of their times.

Where processors are shared, everything is at times up to twice as slow, for milliseconds or for minutes.
What slows a call slows the one beside it equally. So calls take turns, a slice of about a millisecond each,
and are compared round by round.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import quantiles
from typing import Any

Clock = Callable[[], Any]
"""Reads the time: what it returns later minus what it returned before is a number of seconds."""

# A thousand times what reading the clock takes, and short compared with most disturbances.
SLICE_SECONDS = 5e-4
MIN_ROUNDS = 7  # one in four may be disturbed without moving a quartile far
MAX_ROUNDS = 201  # with more, the median of undisturbed rounds hardly moves


@dataclass(frozen=True)
class Spread:
    """The median of samples, and the quartiles: half of the samples lie between `low` and `high`."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Spread":
        """Return the spread of at least two samples."""
        return cls(*quantiles(samples, n=4, method="inclusive"))


def measure_in_turns(takes: Sequence[Callable[[], float]], seconds: float) -> list[list[float]]:
    """Return rounds of one measurement of each call, until the time is over.

    Every other round goes backwards, so that what drifts favours nobody. The garbage collector runs before
    and is then off, as in `timeit`.

    Args:
        takes: for each call a function that measures it once, as `make_slice_timer` returns them.
        seconds: for how long; there are at least `MIN_ROUNDS` and at most `MAX_ROUNDS` rounds.
    """
    rounds: list[list[float]] = []
    gc.collect()
    gc.disable()
    try:
        stop = time.perf_counter() + seconds
        while len(rounds) < MIN_ROUNDS or (len(rounds) < MAX_ROUNDS and time.perf_counter() < stop):
            order = takes if len(rounds) % 2 == 0 else takes[::-1]
            measured = [take() for take in order]
            rounds.append(measured if len(rounds) % 2 == 0 else measured[::-1])
    finally:
        gc.enable()
    return rounds


def make_slice_timer(
    run: Callable[[], Any], clock: Clock, slice_seconds: float = SLICE_SECONDS
) -> Callable[[], float]:
    """Warm `run` up; return a function that fills a slice with calls of it and returns the seconds of one."""

    def take(calls: int) -> float:
        start = clock()
        for _ in range(calls):
            run()
        return float(clock() - start) / calls

    calls = 1
    while (one := take(calls)) * calls < slice_seconds:
        calls = max(calls + 1, min(10 * calls, int(1.1 * slice_seconds / max(one, 1e-9))))
    return partial(take, calls)
