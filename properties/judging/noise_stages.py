"""By how many jittered copies noise is measured: by as few as a verdict needs, or by all, for a margin."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_is_measured_fully: ContextVar[bool] = ContextVar("is_measured_fully", default=False)


@contextmanager
def measure_noise_fully() -> Iterator[None]:
    """Within this context every result is judged by the noise of all copies, so that `worst` is a margin.

    Otherwise noise is measured until a result passes, which leaves it near what is allowed by then: a result
    that is off by two units passes with the plain run, whatever more the copies would allow.
    """
    token = _is_measured_fully.set(True)
    try:
        yield
    finally:
        _is_measured_fully.reset(token)


def is_noise_measured_fully() -> bool:
    return _is_measured_fully.get()


def list_stages(copy_counts: Sequence[int]) -> Sequence[int]:
    """Return how many copies to look at, in turn, given the counts besides the plain run, which is first."""
    return copy_counts[-1:] if is_noise_measured_fully() else (0, *copy_counts)
