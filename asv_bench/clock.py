"""Seconds that a busy machine does not change: a call is timed against multiplications done in turn with it.

Where processors are shared, everything is at times up to twice as slow, for milliseconds or for minutes, and two runs of
the same code differ by as much. What slows a call slows other work beside it alike. So a time here is

    (the call / a multiplication of arrays of the same size, side by side) * (what that multiplication takes undisturbed)

where the first factor is measured, in slices of about a millisecond that take turns, and the second is a constant of the
machine, measured once and kept in `.asv/undisturbed.json`. asv is given it through the `timer` of a benchmark.
"""

import gc
import json
import operator
import os
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from asv_bench.calls import ELEMENTS
from asv_bench.subjects import ROOT
from gradspec.backends import Backend

Clock = Callable[[], float]

SLICE = 5e-4  # seconds: a thousand times what reading the clock takes, and short against most disturbances
PAIRS = 5  # of which two may be disturbed without moving the median
ENOUGH = 0.05  # seconds after which no more than PAIRS are measured: of short calls, dozens fit in
MOST = 61  # beyond which the median of undisturbed pairs moves by less than 1%
QUICK = bool(os.environ.get("GRADSPEC_BENCH_QUICK"))  # to see each benchmark run, not for its figure
if QUICK:
    SLICE, PAIRS, MOST = 0.0, 1, 1
KEPT = ROOT / ".asv" / "undisturbed.json"


def clock_of(backend: Backend) -> Clock:
    """Seconds of the processor, which do not pass while others have it; for a device, of the day, once its work is done."""
    if backend.device == "cpu":
        return time.process_time

    def synchronized() -> float:
        backend.synchronize()
        return time.perf_counter()

    return synchronized


def multiplication(backend: Backend, size: str) -> Callable[[], Any]:
    """The library's own `x * y` on float32 arrays of this size: nothing in it is gradspec's."""
    n = ELEMENTS[size]
    x, y = (backend.from_numpy(np.linspace(1, 2, n, dtype=np.float32)) for _ in range(2))
    return partial(operator.mul, x, y)


def undisturbed(backend: Backend, size: str) -> float:
    """The seconds of `multiplication` when nothing disturbs it: the fastest slice of one second, measured once a machine."""
    if not SLICE:
        return 1.0
    key = f"{backend.name} {size}"
    known: dict[str, float] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if key not in known:
        slices, stop = [], time.perf_counter() + 1.0
        take = sliced(multiplication(backend, size), _alone(clock_of(backend)))
        while time.perf_counter() < stop:
            slices.append(take())
        known[key] = min(slices)
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(known, indent=2) + "\n")
    return known[key]


def seconds(run: Callable[[], Any], backend: Backend, size: str) -> float:
    """The seconds that a call takes undisturbed."""
    clock = clock_of(backend)
    return undisturbed(backend, size) * ratio(run, multiplication(backend, size), clock)


def ratio(run: Callable[[], Any], reference: Callable[[], Any], clock: Clock) -> float:
    """How many times longer one call takes than another: the median over pairs of slices that take turns.

    The garbage collector is off, as in `timeit`.
    """
    above, below = sliced(run, clock), sliced(reference, _alone(clock))
    found: list[float] = []
    gc.collect()
    gc.disable()
    try:
        start, before = time.perf_counter(), below()
        while len(found) < PAIRS or (len(found) < MOST and time.perf_counter() < start + ENOUGH):
            middle, after = above(), below()
            found.append(2 * middle / (before + after))
            before = after
    finally:
        gc.enable()
    return median(found)


def _alone(clock: Clock) -> Clock:
    """The clock for a reference, on which other threads have no share: torch's may still be tidying up after the call."""
    return time.thread_time if clock is time.process_time else clock


def sliced(run: Callable[[], Any], clock: Clock) -> Callable[[], float]:
    """A function that calls `run` as often as fills a slice, and returns the seconds of one call. Warms it up."""

    def take(calls: int) -> float:
        start = clock()
        for _ in range(calls):
            run()
        return (clock() - start) / calls

    calls = 1
    while (one := take(calls)) * calls < SLICE:
        calls = max(calls + 1, min(10 * calls, int(1.1 * SLICE / max(one, 1e-9))))
    return partial(take, calls)
