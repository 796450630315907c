"""CuPy arrays: conversion from and to NumPy, copies with the same layout, and errors that are raised later.

An op does not wait for the device, so an error that depends on values is raised at the next `synchronize`.
"""

import math
from contextlib import AbstractContextManager
from typing import Any

import cupy
import numpy as np

from gradspec.backends.cupy.deferred_errors import synchronize

Array = Any

_ALIGNMENT_BYTES = 512
"""CuPy's allocations start at multiples of it, so kernels can tell offsets apart modulo this many bytes."""


def from_numpy(x: np.ndarray[Any, Any]) -> Array:
    """Return an array with the same elements and strides on the current device.

    It also lies at the same distance from the places of vector loads.

    Args:
        x: An array of dtype float64, float32, float16, `ml_dtypes.bfloat16`, int64 or bool; it may be
            read-only.
    """
    if not x.size:
        return cupy.empty(x.shape, x.dtype)
    low, high = np.lib.array_utils.byte_bounds(x)
    offset = (low - _find_memory_start(x)) % _ALIGNMENT_BYTES
    memory = np.zeros(offset + high - low, np.uint8)
    first = offset + x.__array_interface__["data"][0] - low
    np.ndarray(x.shape, x.dtype, memory, first, x.strides)[...] = x
    return _view_memory(cupy.asarray(memory), x, first)


def _find_memory_start(x: np.ndarray[Any, Any]) -> int:
    """Return the address at which the memory starts that x is a view of."""
    owner = x
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return int(np.lib.array_utils.byte_bounds(owner)[0])


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """Return a NumPy array with the same elements, in memory of its own; wait for the device.

    Raises:
        ValueError: An op has been given values that it does not take; see `synchronize`.
    """
    array = np.array(cupy.asnumpy(x))
    synchronize()
    return array


def copy_with_layout(x: Array) -> Array:
    """Return a copy of x with the strides of x, so that a rule sees the same layout."""
    if not x.size:
        return x.copy()
    low = sum((n - 1) * s for n, s in zip(x.shape, x.strides, strict=True) if s < 0)
    high = sum((n - 1) * s for n, s in zip(x.shape, x.strides, strict=True) if s > 0) + x.dtype.itemsize
    copy = _view_memory(cupy.empty(high - low, cupy.uint8), x, -low)
    copy[...] = x
    return copy


def poison_memory(fill: float = math.nan) -> AbstractContextManager[None]:
    """Fill memory that is allocated within this context with bits of 1, for floats NaN, or with zeros.

    Args:
        fill: NaN for bits of 1; any number for zeros.
    """
    allocate = cupy.cuda.get_allocator()

    def malloc(size: int) -> Any:
        memory = allocate(size)
        if size:
            # On the current stream, so before whatever is launched on it next.
            memory.memset_async(0xFF if math.isnan(fill) else 0, size)
        return memory

    return cupy.cuda.using_allocator(malloc)  # type: ignore[no-any-return]


def _view_memory(memory: Array, like: Any, first: int) -> Array:
    """Return an array in this memory with the shape, dtype and strides of `like`.

    Args:
        memory: An array of bytes.
        like: The array whose shape, dtype and strides it gets.
        first: The byte at which its first element starts.
    """
    return cupy.ndarray(like.shape, like.dtype, memory.data + first, like.strides)
