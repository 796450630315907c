"""Checks that say in one line why CuPy cannot run here."""

from collections.abc import Callable

import cupy


def find_obstacle() -> str | None:
    """Return what is missing, from the driver to a first kernel; None if nothing is."""
    for what, attempt in _CHECKS:
        try:
            if reason := attempt():
                return reason
        except Exception as error:  # a broken installation may raise anything
            return f"{what} ({_first_line(error)})"
    return None


def _check_device() -> str | None:
    if cupy.is_available():
        return None
    cupy.cuda.runtime.getDeviceCount()  # its error says why
    return "no CUDA device"


def _check_compiler() -> None:
    cupy.cuda.nvrtc.getVersion()


def _check_kernel() -> None:
    twice = cupy.RawKernel('extern "C" __global__ void twice(int* x) { *x *= 2; }', "twice")
    x = cupy.full(1, 21, cupy.int32)
    twice((1,), (1,), (x,))
    if int(x[0]) != 42:
        raise RuntimeError(f"twice 21 is {int(x[0])}")


_CHECKS: list[tuple[str, Callable[[], str | None]]] = [
    ("no CUDA driver or device", _check_device),
    ("no NVRTC, which compiles kernels: pip install nvidia-cuda-nvrtc", _check_compiler),
    ("the first kernel failed", _check_kernel),
]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
