"""A memory handler (NEP 49) that counts the arrays and bytes that NumPy allocates while something runs.

Unlike a peak, the sum of all allocations shows every temporary array. Unlike times, both are the same on
every machine.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from asv_bench.measuring.numpy_memory_handler import MemoryHandler, install_handler, restore_handler

_malloc_t = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_calloc_t = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
_realloc_t = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_free_t = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


@dataclass
class AllocationStats:
    """What NumPy allocated.

    Attributes:
        array_count: how many arrays.
        total_nbytes: the bytes of all of them together.
        peak_nbytes: the most bytes allocated at one time.
    """

    array_count: int = 0
    total_nbytes: int = 0
    peak_nbytes: int = 0
    _nbytes_by_address: dict[int, int] = field(default_factory=dict)  # of what is allocated now

    def add(self, address: int, nbytes: int) -> None:
        self.array_count += 1
        self.total_nbytes += nbytes
        self._nbytes_by_address[address] = nbytes
        self.peak_nbytes = max(self.peak_nbytes, sum(self._nbytes_by_address.values()))

    def remove(self, address: int) -> None:
        self._nbytes_by_address.pop(address, None)


_libc = ctypes.PyDLL(None)
for _name in ("malloc", "calloc", "realloc"):
    getattr(_libc, _name).restype = ctypes.c_void_p
_active_stats: list[AllocationStats] = []  # one for each block that is counting, the innermost last


def _record_allocation(address: int, nbytes: int) -> int:
    for stats in _active_stats:
        stats.add(address, nbytes)
    return address


def _record_free(address: int) -> None:
    for stats in _active_stats:
        stats.remove(address)


def _malloc(_: Any, n: int) -> Any:
    return _record_allocation(_libc.malloc(ctypes.c_size_t(n or 1)), n)


def _calloc(_: Any, count: int, n: int) -> Any:
    return _record_allocation(_libc.calloc(ctypes.c_size_t(count or 1), ctypes.c_size_t(n or 1)), count * n)


def _realloc(_: Any, address: int, n: int) -> Any:
    _record_free(address)
    return _record_allocation(_libc.realloc(ctypes.c_void_p(address), ctypes.c_size_t(n or 1)), n)


def _free(_: Any, address: int, n: int) -> None:
    _record_free(address)
    _libc.free(ctypes.c_void_p(address))


# These ctypes functions must outlive the last array that was allocated through them.
_HANDLER_FUNCTIONS = {
    "malloc": _malloc_t(_malloc),
    "calloc": _calloc_t(_calloc),
    "realloc": _realloc_t(_realloc),
    "free": _free_t(_free),
}
_COUNTING_HANDLER = MemoryHandler(
    name=b"gradspec counts",
    version=1,
    **{name: ctypes.cast(function, ctypes.c_void_p).value for name, function in _HANDLER_FUNCTIONS.items()},
)


@contextmanager
def count_allocations() -> Iterator[AllocationStats]:
    """Count what NumPy allocates within the block; the counts are complete when the block ends."""
    stats, previous_handler = AllocationStats(), install_handler(_COUNTING_HANDLER)
    _active_stats.append(stats)
    try:
        yield stats
    finally:
        _active_stats.remove(stats)
        restore_handler(previous_handler)
