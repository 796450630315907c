"""`cupy.RawModule` without a GPU: the kernels' own source, compiled by g++ and run by `cuda_emulation.cpp`.

Within `checked()` they are compiled with a call before every access to memory, which `cuda_memory_checks.h` judges and counts.
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
"""None where there is none."""

FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-w")
CHECK_FLAGS = ("-O0", "-g1", "-DCHECKED", "-fsanitize=thread,alignment,bounds-strict")
"""Not optimized: an access whose value nobody needs is one all the same."""

CACHE_FOLDER = Path(
    tempfile.gettempdir(), f"gradspec-emulated-kernels-{os.getuid() if hasattr(os, 'getuid') else 0}"
)

HERE = Path(__file__).parent
SOURCES = ("cuda_emulation.h", "cuda_emulation.cpp", "cuda_memory_checks.h")

reverse_order = False
"""Whether threads and blocks run from the last to the first."""

last_block_count = 0
"""How many blocks of a grid are run, the last ones; all of them if it is 0."""

launched_kernels: list[str] = []
"""The name of every kernel launched so far."""


@dataclass(frozen=True)
class MemoryTraffic:
    """The bytes that a launch moved, by the number of the argument; an atomic operation reads and writes its own.

    distinct_read, distinct_written: each byte counted once. Where arguments share memory, the first of them has it.
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
    """Within this context a launch raises RuntimeError for what compute-sanitizer would find, and notes its traffic.

    That is an access beyond the arrays it was given or the shared memory it declared, or within a local array beyond its
    end; one that is not aligned to its type; and two to the same byte by threads that nothing orders, one of them a write.
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
    """A kernel, called as CuPy's are: with a grid, a block and arguments that have the C type of their dtype."""

    def __init__(self, name: str, module: RawModule) -> None:
        self.name, self.module = name, module

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any]) -> None:
        (threads,) = block
        assert 0 < threads <= 1024
        assert threads % 32 == 0, "the kernels want full warps"
        assert all(0 < n <= most for n, most in zip(grid, (2**31 - 1, 65535, 65535), strict=False)), grid
        launched_kernels.append(self.name)
        arrays = {i: x.array for i, x in enumerate(args) if hasattr(x, "data") and hasattr(x, "array")}
        cells = [np.atleast_1d(np.uintp(x.data.ptr) if i in arrays else x) for i, x in enumerate(args)]
        assert all(cell.dtype.itemsize in (4, 8) and cell.dtype.kind in "uif" for cell in cells), (
            "numbers of NumPy's types"
        )
        pointers = (ctypes.c_void_p * len(cells))(*(cell.ctypes.data for cell in cells))
        sizes = (ctypes.c_uint * 3)(*grid, *[1] * (3 - len(grid)))

        def launch(library: Any) -> int:
            function = library[f"launch_{self.module.names.index(self.name)}"]
            return int(
                function(
                    sizes,
                    ctypes.c_uint(threads),
                    pointers,
                    ctypes.c_int(reverse_order),
                    ctypes.c_ulonglong(last_block_count),
                )
            )

        if _traffic is None:
            outcome = launch(_load_library(self.module.code, self.module.names))
        else:
            outcome = self._launch_checked(launch, arrays, _traffic)
        if outcome:
            raise RuntimeError(f"{self.name}: the threads of a block wait for each other for ever")

    def _launch_checked(
        self,
        launch: Callable[[Any], int],
        arrays: dict[int, np.ndarray[Any, Any]],
        traffic: list[MemoryTraffic],
    ) -> int:
        """The outcome of a launch; RuntimeError for what it must not do."""
        library = _load_library(self.module.code, self.module.names, CHECK_FLAGS)
        spans = (_Span * len(arrays))(*map(_Span.from_array, arrays.values()))
        library.check(spans, len(spans))
        outcome = launch(library)
        library.check(None, 0)
        library.report.restype = ctypes.POINTER(_Report)
        if outcome == 2:
            report = library.report().contents
            line = _find_source_line(self.module.code, Path(library._name), report.code)
            raise RuntimeError(f"{self.name}: {report.describe(arrays)}{line}")
        counts = [
            {i: int(getattr(span, what)) for i, span in zip(arrays, spans, strict=True)}
            for what in ("bytes", "read", "written", "distinct_read", "distinct_written")
        ]
        traffic.append(MemoryTraffic(self.name, *counts))
        return outcome


# What is read of cuda_memory_checks.h


class _Span(ctypes.Structure):
    """Of `struct Span`."""

    _fields_ = [
        ("start", ctypes.c_size_t),
        *(
            (name, ctypes.c_ulonglong)
            for name in ("bytes", "read", "written", "distinct_read", "distinct_written")
        ),
    ]

    @classmethod
    def from_array(cls, x: np.ndarray[Any, Any]) -> "_Span":
        low, high = np.lib.array_utils.byte_bounds(x)
        return cls(low, high - low if x.size else 0)


_OUT_OF_BOUNDS, _MISALIGNED, _BEYOND_LOCAL_ARRAY = 1, 2, 3
_IN_ARGUMENT, _IN_SHARED_MEMORY = 1, 2
_Index = ctypes.c_uint * 3


class _Report(ctypes.Structure):
    """Of `struct Report`."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("fault", "access", "place", "number")),
        *((name, ctypes.c_longlong) for name in ("at", "bytes", "room")),
        ("block", _Index),
        ("thread", ctypes.c_uint),
        ("other_access", ctypes.c_int),
        ("other_block", _Index),
        ("other_thread", ctypes.c_uint),
        ("code", ctypes.c_ulonglong),
        ("type", ctypes.c_char * 80),
    ]

    def describe(self, arrays: dict[int, np.ndarray[Any, Any]]) -> str:
        """The fault in words. arrays: the arguments that are arrays, by their number."""
        block, other = tuple(self.block), tuple(self.other_block)
        who = f"block {block}, thread {self.thread}"
        does = ("reads", "writes", "updates")[self.access]
        kind = self.type.decode()
        if self.fault == _BEYOND_LOCAL_ARRAY:
            return f"{who} takes element {self.at} of a local array of type {kind}"
        if self.place == _IN_SHARED_MEMORY:
            what, room = f"the shared memory declared in line {self.number}", self.room
        elif self.place == _IN_ARGUMENT:
            i = list(arrays)[self.number]
            x, room = arrays[i], self.room
            what = f"argument {i}, {x.dtype.name} of shape {x.shape}"
        else:
            return f"{who} {does} {self.bytes} bytes at address {self.at:#x}, which is that of no argument"
        where = f"byte {self.at} of {what}"
        if self.fault == _OUT_OF_BOUNDS:
            return f"{who} {does} {self.bytes} bytes at {where}, which has {room} bytes"
        if self.fault == _MISALIGNED:
            of = f" of type {kind}" if kind else ""
            return f"{who} {does} something{of} at {where}, which does not lie at a multiple of {self.bytes} bytes"
        did = ("read", "written", "updated")[self.other_access]
        if block == other:
            return (
                f"{who} {does} {where}, which thread {self.other_thread} has {did} with no barrier in between"
            )
        return f"{who} {does} {where}, which block {other}, thread {self.other_thread} has {did}; blocks have no order"


def _find_source_line(code: str, library: Path, code_offset: int) -> str:
    """The line of the source that the machine code at this place was made of, if there is a tool that tells."""
    tool = shutil.which("addr2line")
    if tool is None or not code_offset:
        return ""
    call = [tool, "-i", "-e", str(library), hex(code_offset - 1)]
    said = subprocess.run(call, capture_output=True, text=True, check=False).stdout
    found = re.search(r"kernels\.cpp:(\d+)", said)
    lines = code.splitlines()
    if not found or int(found[1]) > len(lines):
        return ""
    return f"\n  line {found[1]}: {lines[int(found[1]) - 1].strip()}"


# Libraries


@cache
def _load_library(code: str, names: Sequence[str], extra_flags: Sequence[str] = ()) -> Any:
    """The library with a function `launch_i` for the i-th kernel."""
    return ctypes.CDLL(str(_build_library(code, names, extra_flags)))


def _build_library(code: str, names: Sequence[str], extra_flags: Sequence[str]) -> Path:
    """Compiled once for each source; what runs the kernels, once for all."""
    launchers = "".join(
        'extern "C" __attribute__((visibility("default"))) '
        f"int launch_{i}(const unsigned* grid, unsigned threads, void** args, int reversed, unsigned long long last) "
        f"{{ return emulation::launch({name}, grid, threads, args, reversed, last); }}\n"
        for i, name in enumerate(names)
    )
    runs = _compile_or_link('#include "cuda_emulation.cpp"\n', FLAGS, [])
    return _compile_or_link(
        f'#include "cuda_emulation.h"\n#line 1\n{code}\n{launchers}', (*FLAGS, *extra_flags), [runs]
    )


def _compile_or_link(text: str, flags: Sequence[str], objects: Sequence[Path]) -> Path:
    """The object file of a C++ text or, with others that it needs, the library."""
    made = CACHE_FOLDER / f"{_cache_key_of(text, *flags, *map(str, objects))}{'.so' if objects else '.o'}"
    if made.exists():
        return made
    header = _precompile_header(flags)
    with tempfile.TemporaryDirectory(dir=CACHE_FOLDER) as folder:
        written, compiled, linked = (Path(folder, f"kernels.{suffix}") for suffix in ("cpp", "o", "so"))
        written.write_text(text, encoding="utf-8")
        _run_compiler([*flags, "-I", header, "-I", HERE, "-c", "-o", compiled, written])
        if objects:  # without the flags, which would link what sanitizers are run by
            _run_compiler(["-shared", "-o", linked, compiled, *objects])
        (linked if objects else compiled).replace(made)  # at once, for several processes may be at it
    return made


@cache
def _precompile_header(flags: Sequence[str]) -> Path:
    """The folder of the compiled header, which takes longer to read than most kernels to compile."""
    CACHE_FOLDER.mkdir(mode=0o700, exist_ok=True)
    made = CACHE_FOLDER / _cache_key_of(*flags)
    made.mkdir(exist_ok=True)
    compiled = made / f"{SOURCES[0]}.gch"
    if not compiled.exists():
        with tempfile.TemporaryDirectory(dir=CACHE_FOLDER) as folder:
            written = Path(folder, compiled.name)
            _run_compiler([*flags, "-x", "c++-header", "-o", written, HERE / SOURCES[0]])
            written.replace(compiled)
    return made


def _cache_key_of(*texts: str) -> str:
    included = [(HERE / name).read_text(encoding="utf-8") for name in SOURCES]
    return hashlib.sha256(" ".join((*texts, *included, COMPILER or "")).encode()).hexdigest()


def _run_compiler(arguments: Sequence[str | Path]) -> None:
    if COMPILER is None:
        raise RuntimeError("no C++ compiler: install g++, or name another in CXX")
    done = subprocess.run([COMPILER, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{COMPILER} cannot compile the kernels:\n{done.stderr[:4000]}")
