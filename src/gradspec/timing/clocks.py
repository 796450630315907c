"""Clocks for work on a backend: of this machine, or events on the stream of a GPU."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradspec.backends import Backend
from gradspec.timing.turns import Clock


def make_clock(backend: Backend, array: Any) -> Clock:
    """Return a clock for work on this backend.

    On a GPU it records events where the library of the backend's arrays has them. Else it waits until the
    backend has done all its work, and reads the wall clock.

    Args:
        backend: the backend.
        array: an array of it, which tells which library records.
    """
    library = type(array).__module__.partition(".")[0]
    if backend.device.startswith("cuda") and library in EVENT_CLOCKS:
        return EVENT_CLOCKS[library](sys.modules[library])

    def read_synchronized_clock() -> float:
        backend.synchronize()
        return time.perf_counter()

    return read_synchronized_clock


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
