"""How many arrays NumPy allocates while something runs, and how many bytes: a memory handler that counts (NEP 49).

Unlike a peak, the sum of all allocations shows every temporary array; unlike times, both are the same on every machine.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

_SET_HANDLER = 304  # the places in NumPy's C API, the same since 1.22: see numpy/__multiarray_api.h
_NAME, _VERSION = b"gradspec counts", 1
_CAPSULE = ctypes.create_string_buffer(b"mem_handler")  # which the capsule points to, and does not copy

_malloc_t = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_calloc_t = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
_realloc_t = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_free_t = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _Handler(ctypes.Structure):
    """PyDataMem_Handler with its PyDataMemAllocator, field by field."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("ctx", ctypes.c_void_p),
        ("malloc", _malloc_t),
        ("calloc", _calloc_t),
        ("realloc", _realloc_t),
        ("free", _free_t),
    )


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


# All of it must outlive the last array that was allocated through it.
_handler = _Handler(
    _NAME, _VERSION, None, _malloc_t(_malloc), _calloc_t(_calloc), _realloc_t(_realloc), _free_t(_free)
)
ctypes.pythonapi.PyCapsule_New.restype = ctypes.py_object
ctypes.pythonapi.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
ctypes.pythonapi.PyCapsule_GetPointer.restype = ctypes.c_void_p
ctypes.pythonapi.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_capsule = ctypes.pythonapi.PyCapsule_New(ctypes.addressof(_handler), ctypes.addressof(_CAPSULE), None)
_api = ctypes.cast(
    ctypes.pythonapi.PyCapsule_GetPointer(_multiarray_umath._ARRAY_API, None),
    ctypes.POINTER(ctypes.c_void_p),
)
_set = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(_api[_SET_HANDLER])


@contextmanager
def allocations() -> Iterator[Allocated]:
    """What NumPy allocates within the block, as an `Allocated` that is complete when the block ends."""
    found, before = Allocated(), _set(_capsule)
    _counts.append(found)
    try:
        yield found
    finally:
        _counts.remove(found)
        _set(before)
