"""Whether ops are recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

paused = 0
"""How many `no_grad` are open, in all threads: while there are none, an op need not ask for its own."""

_tracking: ContextVar[bool] = ContextVar("tracking", default=True)
_counting = Lock()


@contextmanager
def recording(on: bool) -> Iterator[None]:
    """Within this context ops are recorded, or are not; an exception ends it as well."""
    token = _tracking.set(on)
    try:
        yield
    finally:
        _tracking.reset(token)


@contextmanager
def no_grad() -> Iterator[None]:
    """Within this context nothing is recorded and results do not require grad."""
    _count(1)
    try:
        with recording(False):
            yield
    finally:
        _count(-1)


def is_tracking() -> bool:
    """Whether ops are recorded at this point: False within `no_grad`."""
    return not paused or _tracking.get()


def _count(change: int) -> None:
    global paused  # noqa: PLW0603 - every op asks, and nothing is read faster
    with _counting:
        paused += change
