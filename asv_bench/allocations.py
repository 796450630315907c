"""How many arrays NumPy allocates while something runs, and how many bytes: a memory handler that counts (NEP 49).

Unlike a peak, the sum of all allocations shows every temporary array; unlike times, both are the same on every machine.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from asv_bench.handlers import Handler, install, restore

_malloc_t = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_calloc_t = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
_realloc_t = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_free_t = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


@dataclass
class Allocated:
    """arrays: how many were allocated; nbytes: of how many bytes together; peak: of how many at one time, at most."""

    arrays: int = 0
    nbytes: int = 0
    peak: int = 0
    _sizes: dict[int, int] = field(default_factory=dict)  # of those that there are, by address

    def add(self, address: int, nbytes: int) -> None:
        self.arrays += 1
        self.nbytes += nbytes
        self._sizes[address] = nbytes
        self.peak = max(self.peak, sum(self._sizes.values()))

    def remove(self, address: int) -> None:
        self._sizes.pop(address, None)


_libc = ctypes.PyDLL(None)
for _name in ("malloc", "calloc", "realloc"):
    getattr(_libc, _name).restype = ctypes.c_void_p
_counts: list[Allocated] = []  # of the blocks that are being counted, the innermost last


def _added(address: int, nbytes: int) -> int:
    for count in _counts:
        count.add(address, nbytes)
    return address


def _removed(address: int) -> None:
    for count in _counts:
        count.remove(address)


def _malloc(_: Any, n: int) -> Any:
    return _added(_libc.malloc(ctypes.c_size_t(n or 1)), n)


def _calloc(_: Any, count: int, n: int) -> Any:
    return _added(_libc.calloc(ctypes.c_size_t(count or 1), ctypes.c_size_t(n or 1)), count * n)


def _realloc(_: Any, address: int, n: int) -> Any:
    _removed(address)
    return _added(_libc.realloc(ctypes.c_void_p(address), ctypes.c_size_t(n or 1)), n)


def _free(_: Any, address: int, n: int) -> None:
    _removed(address)
    _libc.free(ctypes.c_void_p(address))


# Of ctypes functions that must outlive the last array that was allocated through them.
_FUNCTIONS = {
    "malloc": _malloc_t(_malloc),
    "calloc": _calloc_t(_calloc),
    "realloc": _realloc_t(_realloc),
    "free": _free_t(_free),
}
_HANDLER = Handler(
    name=b"gradspec counts",
    version=1,
    **{name: ctypes.cast(function, ctypes.c_void_p).value for name, function in _FUNCTIONS.items()},
)


@contextmanager
def allocations() -> Iterator[Allocated]:
    """What NumPy allocates within the block, as an `Allocated` that is complete when the block ends."""
    found, before = Allocated(), install(_HANDLER)
    _counts.append(found)
    try:
        yield found
    finally:
        _counts.remove(found)
        restore(before)
