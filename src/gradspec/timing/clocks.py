"""Clocks for work on a backend: of this machine, or events on the stream of a GPU.

On a machine that others use, too, a thread is at times ready to run and has to wait for a processor. Linux
says for how long, and the clock of this machine leaves it out. Unlike a clock of processor seconds it counts
what a backend sleeps, or has other threads and processes do.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from gradspec.backends import Backend
from gradspec.timing.turns import Clock


def make_clock(backend: Backend, array: Any) -> Clock:
    """Return a clock for work on this backend.

    On a GPU it records events where the library of the backend's arrays has them. Else it waits until the
    backend has done all its work, and reads the clock of this machine.

    Args:
        backend: the backend.
        array: an array of it, which tells which library records.
    """
    library = type(array).__module__.partition(".")[0]
    if backend.device.startswith("cuda") and library in EVENT_CLOCKS:
        return EVENT_CLOCKS[library](sys.modules[library])

    read_waiting_seconds = _make_waiting_reader(threading.get_native_id())

    def read_synchronized_clock() -> Instant:
        backend.synchronize()
        return Instant(time.perf_counter(), read_waiting_seconds())

    return read_synchronized_clock


@dataclass(frozen=True)
class Instant:
    """A time of this machine; the difference of two is the seconds between them that the thread could run.

    Attributes:
        now: The wall clock.
        waited: The seconds that the thread has waited for a processor so far.
    """

    now: float
    waited: float

    def __sub__(self, earlier: "Instant") -> float:
        return (self.now - earlier.now) - (self.waited - earlier.waited)


@cache
def _make_waiting_reader(thread_id: int) -> Callable[[], float]:
    """Return what reads how long this thread has waited for a processor; 0 where nobody says."""
    try:
        file = os.open(f"/proc/self/task/{thread_id}/schedstat", os.O_RDONLY)
    except OSError:
        return lambda: 0.0
    return lambda: int(os.pread(file, 100, 0).split()[1]) * 1e-9


@dataclass(frozen=True)
class RecordedEvent:
    """A time on a stream; the difference of two is the seconds between them, once the device has got there.

    Attributes:
        event: the event of the library.
        measure_ms: the milliseconds from one event to a later one that has been waited for.
    """

    event: Any
    measure_ms: Callable[[Any, Any], float]

    def __sub__(self, earlier: "RecordedEvent") -> float:
        self.event.synchronize()
        return self.measure_ms(earlier.event, self.event) / 1e3


def _make_torch_clock(torch: Any) -> Clock:
    def record() -> RecordedEvent:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return RecordedEvent(event, lambda start, end: start.elapsed_time(end))

    return record


def _make_cupy_clock(cupy: Any) -> Clock:
    def record() -> RecordedEvent:
        return RecordedEvent(cupy.cuda.get_current_stream().record(), cupy.cuda.get_elapsed_time)

    return record


EVENT_CLOCKS: Mapping[str, Callable[[Any], Clock]] = {"cupy": _make_cupy_clock, "torch": _make_torch_clock}
"""By library, what makes a clock of its events, given the library."""
