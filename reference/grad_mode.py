"""Whether ops are recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

no_grad_count = 0
"""How many `no_grad` are open, in all threads: while there are none, an op need not ask for its own."""

_grad_enabled: ContextVar[bool] = ContextVar("tracking", default=True)
_no_grad_count_lock = Lock()


@contextmanager
def set_grad_enabled(enabled: bool) -> Iterator[None]:
    """Within this context ops are recorded, or are not; an exception ends it as well."""
    token = _grad_enabled.set(enabled)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


@contextmanager
def no_grad() -> Iterator[None]:
    """Within this context nothing is recorded and results do not require grad."""
    _change_no_grad_count(1)
    try:
        with set_grad_enabled(False):
            yield
    finally:
        _change_no_grad_count(-1)


def is_grad_enabled() -> bool:
    """Whether ops are recorded at this point: False within `no_grad`."""
    return not no_grad_count or _grad_enabled.get()


def _change_no_grad_count(change: int) -> None:
    global no_grad_count  # noqa: PLW0603 - every op asks, and nothing is read faster
    with _no_grad_count_lock:
        no_grad_count += change
