"""NumPy's memory handlers (NEP 49), through its C API: the functions that allocate arrays."""

import ctypes
from typing import Any

from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

# Indices into NumPy's C API, the same since 1.22: see numpy/__multiarray_api.h.
_SET_HANDLER_INDEX, _GET_HANDLER_INDEX = 304, 305
# A capsule points to its name and does not copy it.
_CAPSULE_NAME = ctypes.create_string_buffer(b"mem_handler")


class MemoryHandler(ctypes.Structure):
    """NumPy's PyDataMem_Handler with its PyDataMemAllocator, whose functions take `ctx` as first argument."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("ctx", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


ctypes.pythonapi.PyCapsule_New.restype = ctypes.py_object
ctypes.pythonapi.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
ctypes.pythonapi.PyCapsule_GetPointer.restype = ctypes.c_void_p
ctypes.pythonapi.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_numpy_c_api = ctypes.cast(
    ctypes.pythonapi.PyCapsule_GetPointer(_multiarray_umath._ARRAY_API, None),
    ctypes.POINTER(ctypes.c_void_p),
)
_call_set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(_numpy_c_api[_SET_HANDLER_INDEX])
_call_get_handler = ctypes.PYFUNCTYPE(ctypes.py_object)(_numpy_c_api[_GET_HANDLER_INDEX])
# Handlers must outlive the last array that was allocated through them.
_handler_by_address: dict[int, MemoryHandler] = {}


def get_current_handler() -> MemoryHandler:
    """Return the handler that allocates now."""
    return MemoryHandler.from_address(
        ctypes.pythonapi.PyCapsule_GetPointer(_call_get_handler(), _CAPSULE_NAME.value)
    )


def install_handler(handler: MemoryHandler) -> Any:
    """Let this handler allocate from now on; return the capsule that `restore_handler` takes to undo it."""
    _handler_by_address[ctypes.addressof(handler)] = handler
    return _call_set_handler(
        ctypes.pythonapi.PyCapsule_New(ctypes.addressof(handler), ctypes.addressof(_CAPSULE_NAME), None)
    )


def restore_handler(capsule: Any) -> None:
    """Let the handler of a capsule that `install_handler` has returned allocate again."""
    _call_set_handler(capsule)
