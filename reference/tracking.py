"""Whether ops are recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

tracking: ContextVar[bool] = ContextVar("tracking", default=True)


@contextmanager
def no_grad(*, tracking_on: bool = False) -> Iterator[None]:
    """Within this context nothing is recorded and results do not require grad; an exception ends it as well."""
    token = tracking.set(tracking_on)
    try:
        yield
    finally:
        tracking.reset(token)


def is_tracking() -> bool:
    """Whether ops are recorded at this point: False within `no_grad`."""
    return tracking.get()
