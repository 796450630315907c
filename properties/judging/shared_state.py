"""What a backend changes of the process it runs in: noticed after each check, and put back.

It is shared with whatever else runs there: with gradspec, which would judge by replaced functions, and with
the programs of the backend's users. So a change is a violation, whatever the law asks.

Does not see: what is changed when the backend is imported; what is changed in C, in NumPy's objects and
submodules and in other modules; handlers of signals; and a child of a fork that Python was not told of.
"""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter

import numpy as np

FORK_GRACE_SECONDS = 0.5
"""After a call that forked: how long a child that still runs has to come back from it, and to be noticed."""

FORKED = "forked, and a second process came back from the call"

FORKED_ON_IMPORT = "forked when it was imported, and a second process went on"

_NUMPY_NAMES = """
    abs all allclose any arange argmax argsort array array_equal asarray ascontiguousarray
    broadcast_to concatenate copysign cos divide einsum empty errstate exp expm1 finfo full full_like
    isfinite isinf isnan log log1p matmul max maximum mean min minimum multiply nextafter ones
    ones_like prod reshape sign sin sqrt subtract sum tanh where zeros zeros_like
""".split()  # noqa: SIM905 - names of functions, not of ops
"""Those that judging rests on: all 500 would take twenty times as long at every check."""

_get_numpy_functions = attrgetter(*_NUMPY_NAMES)


class _SharedState:
    """What there was before a backend was called."""

    def __init__(self) -> None:
        self._numpy_functions = _get_numpy_functions(np)
        self._folder = _find_current_folder()
        self._recursion_limit = sys.getrecursionlimit()

    def restore(self) -> Iterator[str]:
        """Put everything back; yield what was changed, in words that follow the name of who did."""
        if sys.getrecursionlimit() < self._recursion_limit:  # first: what follows calls functions
            sys.setrecursionlimit(self._recursion_limit)
            yield "lowered the recursion limit"
        if (now := _get_numpy_functions(np)) != (before := self._numpy_functions):
            replaced = [k for k, x in enumerate(now) if x is not before[k]]
            for k in replaced:
                setattr(np, _NUMPY_NAMES[k], before[k])
            yield f"replaced {', '.join(f'numpy.{_NUMPY_NAMES[k]}' for k in replaced)}"
        if self._folder and _find_current_folder() != self._folder:
            with suppress(OSError):
                os.chdir(self._folder)
            yield "changed the working directory"


def _find_current_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - a path takes three times as long, at every check
    except OSError:  # it has been deleted
        return None


@contextmanager
def notice_changes(changes: list[str]) -> Iterator[None]:
    """Within the block, notice what changes of the shared state of the process, and put it back.

    Args:
        changes: The list to add the changes to, in words that follow the name of who did them.
    """
    state, forks = _SharedState(), ForkWatch()
    try:
        with forks:
            yield
    finally:
        changes += state.restore()
        if forks.has_child_come_back:
            changes.append(FORKED)


class ForkWatch:
    """Notices that what a block calls has forked, and that the child has come back from it, too.

    The child ends there: there must not be two of this run. Each fork has a pipe, by which the child says so;
    it is closed as well where the child ends, or executes another program.

    Attributes:
        has_child_come_back: Whether a child has come to the end of the block.
    """

    def __init__(self) -> None:
        self.has_child_come_back = False
        self._pid = os.getpid()
        self._readers: list[int] = []
        self._writer: int | None = None

    def __enter__(self) -> None:
        _watches.append(self)

    def __exit__(self, *_: object) -> None:
        _watches.remove(self)
        if os.getpid() != self._pid:
            with suppress(OSError, TypeError):
                os.write(self._writer, b"x")  # type: ignore[arg-type]
            os._exit(1)
        answers = [_has_been_written_to(reader) for reader in self._readers]  # which closes each
        self.has_child_come_back = any(answers)

    def open_pipe(self) -> None:
        reader, self._writer = os.pipe()
        self._readers.append(reader)

    def close_writer(self) -> None:
        with suppress(OSError):
            os.close(self._writer or -1)
        self._writer = None


def _has_been_written_to(reader: int) -> bool:
    try:
        ready, _, _ = select.select([reader], [], [], FORK_GRACE_SECONDS)
        return bool(ready and os.read(reader, 1))
    except (OSError, ValueError):  # the backend has closed it
        return False
    finally:
        with suppress(OSError):
            os.close(reader)


_watches: list[ForkWatch] = []


def _open_pipe() -> None:
    for watch in _watches[-1:]:
        with suppress(OSError):  # no more descriptors
            watch.open_pipe()


def _close_writer() -> None:
    for watch in _watches[-1:]:
        watch.close_writer()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_open_pipe, after_in_parent=_close_writer)
