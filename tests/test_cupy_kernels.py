"""The CUDA C of the CuPy backend without a GPU: compiled by NVRTC, and run by g++ under the laws that every backend obeys."""

import importlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cupy_cases import broken, long_rows

from gradspec.properties.case import dtype_of

pytest.importorskip("cupy", reason="CuPy is not installed: the extra `cupy` has it, where there are wheels")
stand_in = importlib.import_module("cupy_stand_in")
emulation = importlib.import_module("cuda_emulation")
with stand_in.standing_in():
    launch = importlib.import_module("gradspec.backends.cupy.launch")

needs_compiler = pytest.mark.skipif(
    emulation.COMPILER is None, reason="there is no g++ to run the kernels with"
)


# NVRTC


def programs() -> Iterator[tuple[str, str, int, str]]:
    for architecture in ("sm_80", "sm_90", "sm_100"):
        for file in launch.KERNELS:
            for dtype in launch.TYPES:
                for width in (1, launch.VECTOR // dtype_of(dtype).itemsize):
                    yield file, dtype, width, architecture


def trouble(program: tuple[str, str, int, str]) -> str:
    """What NVRTC has to say against the kernels of a file; nothing if they compile and no register is spilled."""
    file, dtype, width, architecture = program
    nvrtc = importlib.import_module("cupy.cuda").nvrtc
    handle = nvrtc.createProgram(launch.source(file), f"{file}.cu", [], [])
    for name in launch.names(file, dtype, width):
        nvrtc.addNameExpression(handle, name)
    try:
        nvrtc.compileProgram(handle, [*launch.OPTIONS, f"-arch={architecture}", "--ptxas-options=-v"])
    except nvrtc.NVRTCError:
        return f"{program}: {nvrtc.getProgramLog(handle)}"
    log = nvrtc.getProgramLog(handle)
    spilled = re.findall(r"properties for (\S+)\n.* (?!0 )\d+ bytes spill stores", log)
    compiled = log.count("Used ")
    if compiled < len(launch.names(file, dtype, width)):
        return f"{program}: only {compiled} kernels were compiled"
    return f"{program}: registers are spilled in {', '.join(spilled)}" if spilled else ""


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_every_kernel_compiles_and_spills_nothing(architecture: str) -> None:
    first, *others = (p for p in programs() if p[-1] == architecture)
    found = [trouble(first)]  # by itself: two threads at once fail to load NVRTC's own library
    with ThreadPoolExecutor(2) as pool:  # NVRTC works without Python's lock
        found += pool.map(trouble, others)
    assert [t for t in found if t] == []


def test_spilled_registers_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = launch.source
    monkeypatch.setattr(launch, "source", lambda file: source(file).replace("(512, 1)", "(512, 4)"))
    assert "registers are spilled in" in trouble(("layer_norm", "float32", 4, "sm_90"))


# Emulation


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Threads and blocks from the first to the last, and the other way."""
    monkeypatch.setattr(emulation, "reverse", request.param)
    return bool(request.param)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.usefixtures("order")
def test_long_rows_and_large_tables_agree(dtype: str) -> None:
    emulation.launches.clear()
    assert broken(stand_in.gpu(), long_rows(dtype)) == []
    files = {
        "softmax_forward",
        "softmax_backward",
        "layer_norm_forward",
        "layer_norm_backward",
        "sums_of_table",
    }
    assert files < {name.partition("<")[0] for name in emulation.launches}


# Planted faults


def edited(before: str, after: str) -> Callable[[str], str]:
    """`launch.source` with another text in some kernel."""

    def source(file: str) -> str:
        text: str = launch.source(file)
        return text.replace(before, after)

    assert any(before in launch.source(file) for file in launch.KERNELS)
    return source


FAULTS = {
    "no barrier after the write": (
        "softmax", "scratch[threadIdx.x / 32] = x;\n  __syncthreads();", "scratch[threadIdx.x / 32] = x;",
    ),
    "no barrier before the next write": ("softmax", "  __syncthreads();  // scratch may", "  // scratch may"),
    "no barrier before the sum over warps": (
        "add", "k % V] = o ? plains[k] : columns[k];\n      __syncthreads();", "k % V] = o ? plains[k] : columns[k];",
    ),
    "dropped tail of an array": ("tanh", "for (; at < n; at++)", "for (; false;)"),
    "dropped tail of a row": ("log_softmax", "if (at < n) {  // n is", "if (at + V < n) {  // n is"),
    "another sum": ("layer_norm", "along += at < n ? gw * xhat : (A)0;", "along += gw;"),
    "a barrier that some threads never reach": (
        "softmax", "  __syncthreads();  // scratch may", "  if (threadIdx.x < 32) __syncthreads();  // scratch may",
    ),
}  # fmt: skip
"""By name: an op that must notice, what stands in its kernel, and what is written instead."""


@needs_compiler
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_kernel_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one order of the threads or in the other, by what is read before it is written, which is NaN, or by the sums."""
    op, before, after = FAULTS[fault]
    cases, found = [c for c in long_rows("float32") if c.op.name == op], []
    for reverse in (False, True):
        monkeypatch.setattr(emulation, "reverse", reverse)
        found += broken(stand_in.planted(launch_source=edited(before, after)), cases)
    assert op in found


@needs_compiler
@pytest.mark.parametrize(
    "change",
    [
        {"rows_MOST_BLOCKS": 2**31 - 1, "rows_threads_for": lambda n, dtype: 32},  # right, if slow
        {"rows_MOST_BLOCKS": 2},  # as well: a block takes further rows in its turn
    ],
)
def test_another_launch_that_is_right_agrees(change: dict[str, Any]) -> None:
    assert broken(stand_in.planted(**change), long_rows("float32")[:4]) == []


@needs_compiler
def test_a_wrong_launch_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """With half of the blocks, what they leave out is NaN, as memory that nobody has written to is here."""
    right = emulation.Kernel.__call__

    def halved(self: Any, grid: Any, block: Any, args: Any) -> None:
        right(self, (max(1, grid[0] // 2), *grid[1:]), block, args)

    monkeypatch.setattr(emulation.Kernel, "__call__", halved)
    cases = [c for c in long_rows("float32") if c.op.name in ("tanh", "multiply")]
    assert broken(stand_in.gpu(), cases) == ["multiply", "tanh"]
