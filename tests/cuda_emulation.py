"""`cupy.RawModule` without a GPU: the kernels' own source, compiled by g++ and run by `cuda_emulation.h`."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

COMPILER = shutil.which(os.environ.get("CXX", "g++"))
"""None where there is none."""

FLAGS = ("-std=c++17", "-O1", "-shared", "-fPIC", "-fno-strict-aliasing", "-w")
CACHE = Path(
    tempfile.gettempdir(), f"gradspec-emulated-kernels-{os.getuid() if hasattr(os, 'getuid') else 0}"
)

reverse = False
"""Whether threads and blocks run from the last to the first."""

launches: list[str] = []
"""The name of every kernel launched so far."""


class RawModule:
    """The kernels of a source, by their C++ names."""

    def __init__(self, code: str, options: Sequence[str] = (), name_expressions: Sequence[str] = ()) -> None:
        self.names = list(name_expressions)
        self.library = ctypes.CDLL(str(_compiled(code, self.names)))

    def get_function(self, name: str) -> "Kernel":
        return Kernel(name, self.library[f"launch_{self.names.index(name)}"])


class Kernel:
    """A kernel, called as CuPy's are: with a grid, a block and arguments that have the C type of their dtype."""

    def __init__(self, name: str, launch: Any) -> None:
        self.name, self.launch = name, launch

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any]) -> None:
        (threads,) = block
        assert 0 < threads <= 1024
        assert threads % 32 == 0, "the kernels want full warps"
        assert all(0 < n <= most for n, most in zip(grid, (2**31 - 1, 65535, 65535), strict=False)), grid
        launches.append(self.name)
        cells = [
            np.atleast_1d(np.uintp(x.data.ptr) if hasattr(x, "data") and hasattr(x, "array") else x)
            for x in args
        ]
        assert all(cell.dtype.itemsize in (4, 8) and cell.dtype.kind in "uif" for cell in cells), (
            "numbers of NumPy's types"
        )
        pointers = (ctypes.c_void_p * len(cells))(*(cell.ctypes.data for cell in cells))
        sizes = (ctypes.c_uint * 3)(*grid, *[1] * (3 - len(grid)))
        if self.launch(sizes, ctypes.c_uint(threads), pointers, ctypes.c_int(reverse)):
            raise RuntimeError(f"{self.name}: the threads of a block wait for each other for ever")


def _compiled(code: str, names: Sequence[str]) -> Path:
    """The library with a function `launch_i` for the i-th kernel; compiled once for each source."""
    if COMPILER is None:
        raise RuntimeError("no C++ compiler: install g++, or name another in CXX")
    header = Path(__file__).with_name("cuda_emulation.h").read_text(encoding="utf-8")
    launchers = "".join(
        f'extern "C" int launch_{i}(const unsigned* grid, unsigned threads, void** args, int reversed) '
        f"{{ return emulation::launch({name}, grid, threads, args, reversed); }}\n"
        for i, name in enumerate(names)
    )
    text = f"{header}\n{code}\n{launchers}"
    library = CACHE / f"{hashlib.sha256(' '.join((text, COMPILER, *FLAGS)).encode()).hexdigest()}.so"
    if not library.exists():
        CACHE.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            written, made = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
            written.write_text(text, encoding="utf-8")
            done = subprocess.run(
                [COMPILER, *FLAGS, "-o", made, written], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"{COMPILER} cannot compile the kernels:\n{done.stderr[:4000]}")
            made.replace(library)  # at once, for several processes may be at it
    return library
