"""The grad mode: whether ops are recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

no_grad_count = 0
"""How many `no_grad` contexts are open in all threads; while none is, an op need not look up its own mode."""

_grad_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)
_no_grad_count_lock = Lock()


@contextmanager
def set_grad_enabled(enabled: bool) -> Iterator[None]:
    """Record ops within this context, or do not; an exception restores the previous mode, too."""
    token = _grad_enabled.set(enabled)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing within this context; results do not require grad."""
    _change_no_grad_count(1)
    try:
        with set_grad_enabled(False):
            yield
    finally:
        _change_no_grad_count(-1)


def is_grad_enabled() -> bool:
    """Return whether ops are recorded at this point; False within `no_grad`."""
    return not no_grad_count or _grad_enabled.get()


def _change_no_grad_count(change: int) -> None:
    # Every op reads the count, and nothing is read faster than a global.
    global no_grad_count  # noqa: PLW0603
    with _no_grad_count_lock:
        no_grad_count += change
