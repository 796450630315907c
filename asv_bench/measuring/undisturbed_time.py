"""A clock whose seconds do not depend on how busy the machine is.

Where processors are shared, everything is at times up to twice as slow, for milliseconds or for minutes, and
two runs of the same code differ by as much. What slows a call slows other work beside it equally. So each
call is timed in turns with multiplications of arrays of the same size, and a time here is

    (the call / a multiplication, side by side) * (what that multiplication takes undisturbed)

The first factor is measured, in slices of about a millisecond that take turns. The second is a constant of
the machine, stored in `.asv/undisturbed.json`: the fastest multiplication ever seen. The `timer` of a
benchmark passes the time to asv.
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
from gradspec.timing import turns
from gradspec.timing.turns import Clock

SLICE_SECONDS = turns.SLICE_SECONDS
# Two of five may be disturbed without moving the median.
MIN_PAIRS = 5
# Once these are over, no more than MIN_PAIRS are measured; dozens of short calls fit in.
MAX_SECONDS_PER_RATIO = 0.03
# With more, the median of undisturbed pairs moves by less than 1%.
MAX_PAIRS = 61
# Whether benchmarks run only to show that they work, not for their figures.
IS_QUICK_RUN = bool(os.environ.get("GRADSPEC_BENCH_QUICK"))
if IS_QUICK_RUN:
    SLICE_SECONDS, MIN_PAIRS, MAX_PAIRS = 0.0, 1, 1
UNDISTURBED_TIMES_FILE = ROOT / ".asv" / "undisturbed.json"
# A new time replaces the stored one only if their ratio is below this. The fastest slices of undisturbed
# processes differ by less, and times would drift with them.
MAX_RATIO_TO_RENEW = 0.95
# Their spread tells asv a change from noise.
SAMPLES_PER_RATIO = 1 if IS_QUICK_RUN else 5


def make_clock(backend: Backend) -> Clock:
    """Return a clock for work on this backend.

    On the CPU it reads CPU seconds, which do not pass while other processes run. For a device it waits until
    the work there is done and reads the wall clock.
    """
    if backend.device == "cpu":
        return time.process_time

    def read_synchronized_clock() -> float:
        backend.synchronize()
        return time.perf_counter()

    return read_synchronized_clock


def make_multiplication(backend: Backend, size: str) -> Callable[[], Any]:
    """Return a call of the library's own `x * y` on float32 arrays of this size, without gradspec's code."""
    n = ELEMENTS_BY_SIZE[size]
    x, y = (backend.from_numpy(np.linspace(1, 2, n, dtype=np.float32)) for _ in range(2))
    return partial(operator.mul, x, y)


def get_multiplication_seconds(backend: Backend, size: str) -> float:
    """Return the seconds of an undisturbed multiplication.

    The first time it is measured, as the fastest slice of one second; later it is read from the file.
    """
    if not SLICE_SECONDS:
        return 1.0
    key = f"{backend.name} {size}"
    if key not in load_multiplication_times():
        slices, stop = [], time.perf_counter() + 1.0
        clock = _restrict_clock_to_thread(make_clock(backend))
        take = make_slice_timer(make_multiplication(backend, size), clock)
        while time.perf_counter() < stop:
            slices.append(take())
        save_faster_multiplication_time(key, min(slices))
    return load_multiplication_times()[key]


def load_multiplication_times() -> dict[str, float]:
    """Return the seconds of undisturbed multiplications on this machine, by backend and size."""
    return dict(json.loads(UNDISTURBED_TIMES_FILE.read_text())) if UNDISTURBED_TIMES_FILE.exists() else {}


def save_faster_multiplication_time(key: str, seconds: float) -> None:
    """Store a multiplication's time if it clearly beats the stored one: the machine was busy then."""
    known = load_multiplication_times()
    if SLICE_SECONDS and seconds < MAX_RATIO_TO_RENEW * known.get(key, float("inf")):
        UNDISTURBED_TIMES_FILE.parent.mkdir(exist_ok=True)
        new = UNDISTURBED_TIMES_FILE.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(known | {key: seconds}, indent=2) + "\n")
        new.replace(UNDISTURBED_TIMES_FILE)


def measure_seconds(run: Callable[[], Any], backend: Backend, size: str) -> float:
    """Return the seconds that a call takes undisturbed; in a quick run, just those of one call."""
    clock = make_clock(backend)
    if IS_QUICK_RUN:
        start = clock()
        run()
        return float(clock() - start)
    turns = SideBySideTiming(run, make_multiplication(backend, size), clock)
    get_multiplication_seconds(backend, size)
    save_faster_multiplication_time(f"{backend.name} {size}", turns.fastest_reference_seconds)
    return get_multiplication_seconds(backend, size) * turns.ratio


def measure_ratio(run: Callable[[], Any], reference: Callable[[], Any], clock: Clock) -> float:
    """Return how many times as long `run` takes as `reference`, side by side: see `SideBySideTiming`."""
    return SideBySideTiming(run, reference, clock).ratio


def measure_ratio_samples(
    run: Callable[[], Any], reference: Callable[[], Any], samples: int = SAMPLES_PER_RATIO
) -> list[float]:
    """Return how many times as long `run` takes as `reference`, in CPU time, `samples` times over.

    Both are called warm, again and again, as a training loop calls its step: value and gradients, with the
    inputs at hand and the parts of the engine in the cache.
    """
    return [measure_ratio(run, reference, time.process_time) for _ in range(samples)]


def make_slice_timer(run: Callable[[], Any], clock: Clock) -> Callable[[], float]:
    """Return what measures a slice of calls; in a quick run, a slice is one call."""
    return turns.make_slice_timer(run, clock, SLICE_SECONDS)


class SideBySideTiming:
    """Two calls timed in turns, warm: each is repeated until it fills a slice, then it is the other's turn.

    The garbage collector runs before and is then off, as in `timeit`.

    Attributes:
        ratio: how many times as long `run` takes as `reference`: the median over the slices of `run`, each
            divided by the mean of the slices of `reference` before and after it.
        fastest_reference_seconds: seconds of one call in the fastest slice of `reference`.
    """

    def __init__(self, run: Callable[[], Any], reference: Callable[[], Any], clock: Clock) -> None:
        take_run = make_slice_timer(run, clock)
        take_reference = make_slice_timer(reference, _restrict_clock_to_thread(clock))
        gc.collect()
        gc.disable()
        try:
            stop = time.perf_counter() + MAX_SECONDS_PER_RATIO
            references, ratios = [take_reference()], list[float]()
            while len(ratios) < MIN_PAIRS or (len(ratios) < MAX_PAIRS and time.perf_counter() < stop):
                seconds = take_run()
                references.append(take_reference())
                ratios.append(2 * seconds / sum(references[-2:]))
        finally:
            gc.enable()
        self.ratio, self.fastest_reference_seconds = median(ratios), min(references)


def _restrict_clock_to_thread(clock: Clock) -> Clock:
    """Return the clock for a reference, without other threads: torch's may still tidy up after the call."""
    return time.thread_time if clock is time.process_time else clock
