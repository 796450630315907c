"""CuPy's arrays: there and back, copied with their layout, and checks that are told of without waiting for the device."""

from contextlib import AbstractContextManager
from typing import Any

import cupy
import numpy as np

Array = Any

_ALIGNMENT_BYTES = 512
"""Bytes; CuPy's allocations start at multiples of it, so that an offset modulo this much is one that kernels can see."""


def from_numpy(x: np.ndarray[Any, Any]) -> Array:
    """An array of the same elements and strides on the current device, at the same distance from a vector load's place.

    x: of dtype float64, float32, float16, `ml_dtypes.bfloat16`, int64 or bool; read-only or not.
    """
    if not x.size:
        return cupy.empty(x.shape, x.dtype)
    low, high = np.lib.array_utils.byte_bounds(x)
    offset = (low - _memory_address(x)) % _ALIGNMENT_BYTES
    memory = np.zeros(offset + high - low, np.uint8)
    first = offset + x.__array_interface__["data"][0] - low
    np.ndarray(x.shape, x.dtype, memory, first, x.strides)[...] = x
    return _view_memory(cupy.asarray(memory), x, first)


def _memory_address(x: np.ndarray[Any, Any]) -> int:
    """Where the memory starts that x is a view of."""
    owner = x
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return int(np.lib.array_utils.byte_bounds(owner)[0])


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """A NumPy array of the same elements, in memory of its own; waits for the device. Raises what `refuse` has noted."""
    array = np.array(cupy.asnumpy(x))
    synchronize()
    return array


def copy_with_layout(x: Array) -> Array:
    """A copy of x with its strides, so that a rule meets the same layout."""
    if not x.size:
        return x.copy()
    low = sum((n - 1) * s for n, s in zip(x.shape, x.strides, strict=True) if s < 0)
    high = sum((n - 1) * s for n, s in zip(x.shape, x.strides, strict=True) if s > 0) + x.dtype.itemsize
    copy = _view_memory(cupy.empty(high - low, cupy.uint8), x, -low)
    copy[...] = x
    return copy


def poison_memory() -> AbstractContextManager[None]:
    """Within this context every bit that is allocated and not yet written is 1: of floats that is NaN."""
    allocate = cupy.cuda.get_allocator()

    def malloc(size: int) -> Any:
        memory = allocate(size)
        if size:
            memory.memset_async(0xFF, size)  # on the current stream, before whatever is launched on it next
        return memory

    return cupy.cuda.using_allocator(malloc)  # type: ignore[no-any-return]


def _view_memory(memory: Array, like: Any, first: int) -> Array:
    """An array in this memory of bytes with shape, dtype and strides like another, its first element at this byte."""
    return cupy.ndarray(like.shape, like.dtype, memory.data + first, like.strides)


# Checks of values. An op does not wait for the device, so what it finds there is told of when someone does.

_error_flags: dict[int, Array] = {}
"""By device: an integer there, not 0 once an op was given such values. Kept for good: what is replayed writes there too."""

_pending_errors: dict[str, int] = {}
"""What those ops would complain of that were called since somebody last waited, and on which device."""


def get_error_flag(message: str) -> Array:
    """An int32 of no dimensions on the current device: if it is made not 0 a ValueError is due at the next `synchronize`."""
    device = cupy.cuda.runtime.getDevice()
    if device not in _error_flags:
        _error_flags[device] = cupy.zeros((), cupy.int32)
    _pending_errors[message] = device
    return _error_flags[device]


def raise_later_where(bad: Array, message: str) -> None:
    """Note that a ValueError is due where `bad`, one truth value on the device, is true: at the next `synchronize`."""
    raised = get_error_flag(message)
    raised |= bad


def synchronize() -> None:
    """Wait for the current device; ValueError if an op since the last time was given values that it has no answer to.

    Where several could have been, it says what each would complain of.
    """
    cupy.cuda.get_current_stream().synchronize()
    raised = {device for device in set(_pending_errors.values()) if _error_flags[device]}
    found = [complaint for complaint, device in _pending_errors.items() if device in raised]
    _pending_errors.clear()
    for device in raised:
        _error_flags[device][...] = 0
    if found:
        raise ValueError("; or ".join(found))
