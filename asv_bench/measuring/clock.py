"""Seconds that a busy machine does not change: a call is timed against multiplications done in turn with it.

Where processors are shared, everything is at times up to twice as slow, for milliseconds or for minutes, and two runs of
the same code differ by as much. What slows a call slows other work beside it alike. So a time here is

    (the call / a multiplication of arrays of the same size, side by side) * (what that multiplication takes undisturbed)

where the first factor is measured, in slices of about a millisecond that take turns, and the second is a constant of the
machine, kept in `.asv/undisturbed.json`: the fastest that was ever seen. asv is given it through the `timer` of a benchmark.
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

from asv_bench.workloads.calls import ELEMENTS_BY_SIZE
from asv_bench.workloads.ops_and_backends import ROOT
from gradspec.backends import Backend

Clock = Callable[[], float]

SLICE_SECONDS = (
    5e-4  # seconds: a thousand times what reading the clock takes, and short against most disturbances
)
MIN_PAIRS = 5  # of which two may be disturbed without moving the median
MEASURING_SECONDS = 0.03  # seconds after which no more than PAIRS are measured: of short calls, dozens fit in
MAX_PAIRS = 61  # beyond which the median of undisturbed pairs moves by less than 1%
IS_QUICK_RUN = bool(os.environ.get("GRADSPEC_BENCH_QUICK"))  # to see each benchmark run, not for its figure
if IS_QUICK_RUN:
    SLICE_SECONDS, MIN_PAIRS, MAX_PAIRS = 0.0, 1, 1
UNDISTURBED_TIMES_FILE = ROOT / ".asv" / "undisturbed.json"
MAX_RATIO_TO_RENEW = 0.95  # of what is kept: by less the fastest slices of undisturbed processes differ, and times would drift with them


def make_clock(backend: Backend) -> Clock:
    """Seconds of the processor, which do not pass while others have it; for a device, of the day, once its work is done."""
    if backend.device == "cpu":
        return time.process_time

    def read_synchronized_clock() -> float:
        backend.synchronize()
        return time.perf_counter()

    return read_synchronized_clock


def make_multiplication(backend: Backend, size: str) -> Callable[[], Any]:
    """The library's own `x * y` on float32 arrays of this size: nothing in it is gradspec's."""
    n = ELEMENTS_BY_SIZE[size]
    x, y = (backend.from_numpy(np.linspace(1, 2, n, dtype=np.float32)) for _ in range(2))
    return partial(operator.mul, x, y)


def get_undisturbed_seconds(backend: Backend, size: str) -> float:
    """The seconds of `multiplication` when nothing disturbs it: the fastest slice of one second, when first asked for."""
    if not SLICE_SECONDS:
        return 1.0
    key = f"{backend.name} {size}"
    if key not in load_undisturbed_times():
        slices, stop = [], time.perf_counter() + 1.0
        take = make_slice_timer(
            make_multiplication(backend, size), _exclude_other_threads(make_clock(backend))
        )
        while time.perf_counter() < stop:
            slices.append(take())
        save_undisturbed_time(key, min(slices))
    return load_undisturbed_times()[key]


def load_undisturbed_times() -> dict[str, float]:
    """The seconds of undisturbed multiplications on this machine, by backend and size."""
    return dict(json.loads(UNDISTURBED_TIMES_FILE.read_text())) if UNDISTURBED_TIMES_FILE.exists() else {}


def save_undisturbed_time(key: str, seconds: float) -> None:
    """Note that a multiplication took no more than this: what was kept before was measured on a busy machine."""
    known = load_undisturbed_times()
    if SLICE_SECONDS and seconds < MAX_RATIO_TO_RENEW * known.get(key, float("inf")):
        UNDISTURBED_TIMES_FILE.parent.mkdir(exist_ok=True)
        new = UNDISTURBED_TIMES_FILE.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(known | {key: seconds}, indent=2) + "\n")
        new.replace(UNDISTURBED_TIMES_FILE)


def measure_seconds(run: Callable[[], Any], backend: Backend, size: str) -> float:
    """The seconds that a call takes undisturbed; where they are not asked for, of a single one."""
    clock = make_clock(backend)
    if IS_QUICK_RUN:
        start = clock()
        run()
        return clock() - start
    turns = SideBySideTiming(run, make_multiplication(backend, size), clock)
    get_undisturbed_seconds(backend, size)
    save_undisturbed_time(f"{backend.name} {size}", turns.fastest_reference_seconds)
    return get_undisturbed_seconds(backend, size) * turns.ratio


def measure_ratio(run: Callable[[], Any], reference: Callable[[], Any], clock: Clock) -> float:
    """How many times longer one call takes than another, side by side: see `Turns`."""
    return SideBySideTiming(run, reference, clock).ratio


class SideBySideTiming:
    """Two calls timed in turns, warm: each fills a slice, called again and again, then the other does.

    ratio: how many times longer the first takes: the median over slices of it, each over the mean of the two slices of the
    other before and after it. fastest: the fastest slice of the other, in seconds of a call. The garbage collector has run
    before and is off, as in `timeit`.
    """

    def __init__(self, run: Callable[[], Any], reference: Callable[[], Any], clock: Clock) -> None:
        above, below = (
            make_slice_timer(run, clock),
            make_slice_timer(reference, _exclude_other_threads(clock)),
        )
        gc.collect()
        gc.disable()
        try:
            start, around, found = time.perf_counter(), [below()], list[float]()
            while len(found) < MIN_PAIRS or (
                len(found) < MAX_PAIRS and time.perf_counter() < start + MEASURING_SECONDS
            ):
                middle = above()
                around.append(below())
                found.append(2 * middle / sum(around[-2:]))
        finally:
            gc.enable()
        self.ratio, self.fastest_reference_seconds = median(found), min(around)


def _exclude_other_threads(clock: Clock) -> Clock:
    """The clock for a reference, on which other threads have no share: torch's may still be tidying up after the call."""
    return time.thread_time if clock is time.process_time else clock


def make_slice_timer(run: Callable[[], Any], clock: Clock) -> Callable[[], float]:
    """A function that calls `run` as often as fills a slice, and returns the seconds of one call. Warms it up."""

    def take(calls: int) -> float:
        start = clock()
        for _ in range(calls):
            run()
        return (clock() - start) / calls

    calls = 1
    while (one := take(calls)) * calls < SLICE_SECONDS:
        calls = max(calls + 1, min(10 * calls, int(1.1 * SLICE_SECONDS / max(one, 1e-9))))
    return partial(take, calls)
