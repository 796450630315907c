"""`cupy.RawModule` without a GPU: the kernels' own source, compiled by g++ and run by `cuda_emulation.cpp`.

Within `check_memory()` they are compiled with a call before every access to memory. `cuda_memory_checks.h`
checks and counts these accesses.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

COMPILER = shutil.which(os.environ.get("CXX", "g++"))
"""The path of the C++ compiler; None if there is none."""

FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-w")
CHECK_FLAGS = ("-O0", "-g1", "-DCHECKED", "-fsanitize=thread,alignment,bounds-strict")
"""Not optimized: an access counts even if nobody needs its value."""

CACHE_FOLDER = Path(
    tempfile.gettempdir(), f"gradspec-emulated-kernels-{os.getuid() if hasattr(os, 'getuid') else 0}"
)

HERE = Path(__file__).parent
SOURCES = ("cuda_emulation.h", "cuda_emulation.cpp", "cuda_memory_checks.h")

reverse_order = False
"""Whether threads and blocks run from the last to the first, instead of from the first to the last."""

last_block_count = 0
"""How many of the last blocks of a grid are run; all blocks if it is 0."""

launched_kernels: list[str] = []
"""The names of all kernels launched so far."""


@dataclass(frozen=True)
class MemoryTraffic:
    """The bytes that a launch moved, by the number of the argument.

    An atomic operation reads and writes its bytes. The distinct bytes count each byte once. A byte of several
    arguments counts for the first of them.
    """

    kernel: str
    nbytes: dict[int, int]
    bytes_read: dict[int, int]
    bytes_written: dict[int, int]
    distinct_bytes_read: dict[int, int]
    distinct_bytes_written: dict[int, int]


_traffic: list[MemoryTraffic] | None = None


@contextmanager
def check_memory() -> Iterator[list[MemoryTraffic]]:
    """Within this context a launch raises RuntimeError for what compute-sanitizer would find.

    That is an access outside the kernel's arguments and its shared memory, or beyond the end of a local
    array; an access that is not aligned to its type; and two accesses to the same byte by threads that
    nothing orders, one of them a write.

    Yields:
        A list to which every launch adds its traffic.
    """
    global _traffic  # noqa: PLW0603
    before, _traffic = _traffic, []
    try:
        yield _traffic
    finally:
        _traffic = before


class RawModule:
    """The kernels of a source, by their C++ names; compiled when one of them is first launched."""

    def __init__(self, code: str, options: Sequence[str] = (), name_expressions: Sequence[str] = ()) -> None:
        self.code, self.names = code, tuple(name_expressions)

    def get_function(self, name: str) -> "Kernel":
        return Kernel(name, self)


class Kernel:
    """A kernel, called like CuPy's: with a grid, a block, and arguments with the C types of their dtypes."""

    def __init__(self, name: str, module: RawModule) -> None:
        self.name, self.module = name, module

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any]) -> None:
        (threads,) = block
        assert 0 < threads <= 1024
        assert threads % 32 == 0, "blocks must be full warps"
        limits = 2**31 - 1, 65535, 65535
        assert all(0 < n <= limit for n, limit in zip(grid, limits, strict=False)), grid
        launched_kernels.append(self.name)
        arrays = {i: x.array for i, x in enumerate(args) if hasattr(x, "data") and hasattr(x, "array")}
        cells = [np.atleast_1d(np.uintp(x.data.ptr) if i in arrays else x) for i, x in enumerate(args)]
        are_numbers = all(cell.dtype.itemsize in (4, 8) and cell.dtype.kind in "uif" for cell in cells)
        assert are_numbers, "numbers must have NumPy's types"
        pointers = (ctypes.c_void_p * len(cells))(*(cell.ctypes.data for cell in cells))
        sizes = (ctypes.c_uint * 3)(*grid, *[1] * (3 - len(grid)))

        def launch(library: Any) -> int:
            function = library[f"launch_{self.module.names.index(self.name)}"]
            reverse, last = ctypes.c_int(reverse_order), ctypes.c_ulonglong(last_block_count)
            return int(function(sizes, ctypes.c_uint(threads), pointers, reverse, last))

        if _traffic is None:
            outcome = launch(_load_library(self.module.code, self.module.names))
        else:
            outcome = self._launch_checked(launch, arrays, _traffic)
        if outcome:
            raise RuntimeError(f"{self.name}: the threads of a block wait for each other forever")

    def _launch_checked(
        self,
        launch: Callable[[Any], int],
        arrays: dict[int, np.ndarray[Any, Any]],
        traffic: list[MemoryTraffic],
    ) -> int:
        """Return the outcome of a launch, and add its traffic to the list.

        Raises:
            RuntimeError: The kernel did something that `check_memory` does not allow.
        """
        library = _load_library(self.module.code, self.module.names, CHECK_FLAGS)
        spans = (_ArrayTraffic * len(arrays))(*map(_ArrayTraffic.from_array, arrays.values()))
        library.set_checked_spans(spans, len(spans))
        outcome = launch(library)
        library.set_checked_spans(None, 0)
        library.get_report.restype = ctypes.POINTER(_Report)
        if outcome == 2:
            report = library.get_report().contents
            line = _find_source_line(self.module.code, Path(library._name), report.code)
            raise RuntimeError(f"{self.name}: {report.describe(arrays)}{line}")
        by_argument = dict(zip(arrays, spans, strict=True))
        counts = (
            {i: int(getattr(span, field)) for i, span in by_argument.items()} for field in _TRAFFIC_FIELDS
        )
        traffic.append(MemoryTraffic(self.name, *counts))
        return outcome


# The structs and enums of cuda_memory_checks.h

_TRAFFIC_FIELDS = ("bytes", "read", "written", "distinct_read", "distinct_written")


class _ArrayTraffic(ctypes.Structure):
    """`struct Span`."""

    _fields_ = [("start", ctypes.c_size_t), *((name, ctypes.c_ulonglong) for name in _TRAFFIC_FIELDS)]

    @classmethod
    def from_array(cls, x: np.ndarray[Any, Any]) -> "_ArrayTraffic":
        low, high = np.lib.array_utils.byte_bounds(x)
        return cls(low, high - low if x.size else 0)


_OUT_OF_BOUNDS, _MISALIGNED, _BEYOND_LOCAL_ARRAY = 1, 2, 3
_IN_ARGUMENT, _IN_SHARED_MEMORY = 1, 2
_BlockIndex = ctypes.c_uint * 3


class _Report(ctypes.Structure):
    """`struct Report`."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("fault", "access", "place", "number")),
        *((name, ctypes.c_longlong) for name in ("at", "bytes", "size")),
        ("block", _BlockIndex),
        ("thread", ctypes.c_uint),
        ("other_access", ctypes.c_int),
        ("other_block", _BlockIndex),
        ("other_thread", ctypes.c_uint),
        ("code", ctypes.c_ulonglong),
        ("type", ctypes.c_char * 80),
    ]

    def describe(self, arrays: dict[int, np.ndarray[Any, Any]]) -> str:
        """Describe the fault.

        Args:
            arrays: The arguments that are arrays, by their number.
        """
        block, other = tuple(self.block), tuple(self.other_block)
        who = f"block {block}, thread {self.thread}"
        does = ("reads", "writes", "updates")[self.access]
        kind = self.type.decode()
        if self.fault == _BEYOND_LOCAL_ARRAY:
            return f"{who} takes element {self.at} of a local array of type {kind}"
        if self.place == _IN_SHARED_MEMORY:
            memory = f"the shared memory declared in line {self.number}"
        elif self.place == _IN_ARGUMENT:
            i = list(arrays)[self.number]
            memory = f"argument {i}, {arrays[i].dtype.name} of shape {arrays[i].shape}"
        else:
            return f"{who} {does} {self.bytes} bytes at address {self.at:#x}, which is not in any argument"
        where = f"byte {self.at} of {memory}"
        if self.fault == _OUT_OF_BOUNDS:
            return f"{who} {does} {self.bytes} bytes at {where}, which has {self.size} bytes"
        if self.fault == _MISALIGNED:
            what = f"something of type {kind}" if kind else "something"
            return f"{who} {does} {what} at {where}, which does not lie at a multiple of {self.bytes} bytes"
        other_thread, has_done = self.other_thread, ("read", "written", "updated")[self.other_access]
        if block == other:
            return (
                f"{who} {does} {where}, which thread {other_thread} has {has_done} with no barrier in between"
            )
        other_who = f"block {other}, thread {other_thread}"
        return f"{who} {does} {where}, which {other_who} has {has_done}; blocks have no order"


def _find_source_line(code: str, library: Path, code_offset: int) -> str:
    """Return the line of the source of the machine code at this offset; empty if there is no addr2line."""
    tool = shutil.which("addr2line")
    if tool is None or not code_offset:
        return ""
    call = [tool, "-i", "-e", str(library), hex(code_offset - 1)]
    output = subprocess.run(call, capture_output=True, text=True, check=False).stdout
    match = re.search(r"kernels\.cpp:(\d+)", output)
    lines = code.splitlines()
    if not match or int(match[1]) > len(lines):
        return ""
    return f"\n  line {match[1]}: {lines[int(match[1]) - 1].strip()}"


# Libraries


@cache
def _load_library(code: str, names: Sequence[str], extra_flags: Sequence[str] = ()) -> Any:
    """Return the library with a function `launch_i` for the i-th kernel."""
    return ctypes.CDLL(str(_build_library(code, names, extra_flags)))


def _build_library(code: str, names: Sequence[str], extra_flags: Sequence[str]) -> Path:
    """Return the path of the library; each source is compiled once, and the code that runs kernels once."""
    parameters = "const unsigned* grid, unsigned threads, void** args, int reversed, unsigned long long last"
    launchers = "".join(
        f'extern "C" __attribute__((visibility("default"))) int launch_{i}({parameters}) '
        f"{{ return emulation::launch({name}, grid, threads, args, reversed, last); }}\n"
        for i, name in enumerate(names)
    )
    runner = _compile_or_link('#include "cuda_emulation.cpp"\n', FLAGS, [])
    text = f'#include "cuda_emulation.h"\n#line 1\n{code}\n{launchers}'
    return _compile_or_link(text, (*FLAGS, *extra_flags), [runner])


def _compile_or_link(text: str, flags: Sequence[str], objects: Sequence[Path]) -> Path:
    """Return the object file of a C++ text or, with the object files that it needs, the library."""
    result = CACHE_FOLDER / f"{_cache_key_of(text, *flags, *map(str, objects))}{'.so' if objects else '.o'}"
    if result.exists():
        return result
    header = _precompile_header(flags)
    with tempfile.TemporaryDirectory(dir=CACHE_FOLDER) as folder:
        source, object_file, library = (Path(folder, f"kernels.{suffix}") for suffix in ("cpp", "o", "so"))
        source.write_text(text, encoding="utf-8")
        _run_compiler([*flags, "-I", header, "-I", HERE, "-c", "-o", object_file, source])
        if objects:  # without the flags, which would link the libraries of the sanitizers
            _run_compiler(["-shared", "-o", library, object_file, *objects])
        # Moved there in one step, since several processes may do this at the same time.
        (library if objects else object_file).replace(result)
    return result


@cache
def _precompile_header(flags: Sequence[str]) -> Path:
    """Return the folder of the compiled header, which takes longer to read than most kernels to compile."""
    CACHE_FOLDER.mkdir(mode=0o700, exist_ok=True)
    header_folder = CACHE_FOLDER / _cache_key_of(*flags)
    header_folder.mkdir(exist_ok=True)
    compiled_header = header_folder / f"{SOURCES[0]}.gch"
    if not compiled_header.exists():
        with tempfile.TemporaryDirectory(dir=CACHE_FOLDER) as folder:
            output = Path(folder, compiled_header.name)
            _run_compiler([*flags, "-x", "c++-header", "-o", output, HERE / SOURCES[0]])
            output.replace(compiled_header)
    return header_folder


def _cache_key_of(*texts: str) -> str:
    sources = [(HERE / name).read_text(encoding="utf-8") for name in SOURCES]
    return hashlib.sha256(" ".join((*texts, *sources, COMPILER or "")).encode()).hexdigest()


def _run_compiler(arguments: Sequence[str | Path]) -> None:
    if COMPILER is None:
        raise RuntimeError("no C++ compiler: install g++, or name another in CXX")
    process = subprocess.run([COMPILER, *arguments], capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{COMPILER} cannot compile the kernels:\n{process.stderr[:4000]}")
