"""Errors about values: an op does not wait for the device, so they are raised when somebody does."""

import cupy

from gradspec.reference.rule import Array

_error_flags: dict[int, Array] = {}
"""By device: an integer there that is not 0 once an op was given values it does not take.

It is never freed, since what a CUDA graph replays writes there too.
"""

_device_by_pending_error: dict[str, int] = {}
"""The error messages of the ops that were called since somebody last waited, and on which device each ran."""


def get_error_flag(message: str) -> Array:
    """Return the error flag of the current device: an int32 array with no dimensions.

    If it is set to anything but 0, the next `synchronize` raises ValueError with this message.
    """
    device = cupy.cuda.runtime.getDevice()
    if device not in _error_flags:
        _error_flags[device] = cupy.zeros((), cupy.int32)
    _device_by_pending_error[message] = device
    return _error_flags[device]


def raise_later_if(bad: Array, message: str) -> None:
    """Raise ValueError at the next `synchronize` if `bad`, one truth value on the device, is true."""
    flag = get_error_flag(message)
    flag |= bad


def synchronize() -> None:
    """Wait for the current device.

    Raises:
        ValueError: An op since the last time was given values that it does not take. Where several ops could
            have been, the message has that of each.
    """
    cupy.cuda.get_current_stream().synchronize()
    devices = {device for device in set(_device_by_pending_error.values()) if _error_flags[device]}
    messages = [message for message, device in _device_by_pending_error.items() if device in devices]
    _device_by_pending_error.clear()
    for device in devices:
        _error_flags[device][...] = 0
    if messages:
        raise ValueError("; or ".join(messages))
