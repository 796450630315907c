"""The CUDA C of the CuPy backend without a GPU: compiled by NVRTC, and by g++, which runs it under two laws.

The laws are those of values and of gradients, which every backend must obey.
"""

import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gradspec.properties.cases.case import dtype_of
from tests.backends.cupy.kernel_cases import find_wrong_ops, make_case, make_large_cases, normal
from tests.backends.cupy.kernels_under_test import cupy_backends, emulation, launch, needs_compiler

pytestmark = pytest.mark.rotating


# NVRTC


def list_compilations(file: str, architecture: str) -> Iterator[tuple[str, str, int, str]]:
    for dtype in launch.C_TYPES:
        widths = {1, launch.VECTOR_BYTES // dtype_of(dtype).itemsize}
        for width in widths if ",V" in launch.KERNELS_BY_FILE[file][0] else {1}:
            yield file, dtype, width, architecture


def find_compile_problem(compilation: tuple[str, str, int, str]) -> str:
    """Return what is wrong with the kernels of a file; empty if nothing is.

    That is an error of NVRTC, registers that are spilled, or elements that are loaded or stored one by one.
    """
    file, dtype, width, architecture = compilation
    nvrtc = importlib.import_module("cupy.cuda").nvrtc
    handle = nvrtc.createProgram(launch.read_source(file), f"{file}.cu", [], [])
    for name in launch.list_kernel_names(file, dtype, width):
        nvrtc.addNameExpression(handle, name)
    options = [*launch.COMPILER_OPTIONS, f"-arch={architecture}", "--ptxas-options=-v"]
    try:
        nvrtc.compileProgram(handle, options)
    except nvrtc.NVRTCError:
        return f"{compilation}: {nvrtc.getProgramLog(handle)}"
    log = nvrtc.getProgramLog(handle)
    if (compiled := log.count("Used ")) < len(launch.list_kernel_names(file, dtype, width)):
        return f"{compilation}: only {compiled} kernels were compiled"
    if spilled := re.findall(r"properties for (\S+)\n.* (?!0 )\d+ bytes spill stores", log):
        return f"{compilation}: registers are spilled in {', '.join(spilled)}"
    if width > 1 and (narrow := find_unvectorized_kernels(nvrtc.getPTX(handle).decode())):
        return f"{compilation}: elements are loaded or stored one by one in {', '.join(narrow)}"
    return ""


def find_unvectorized_kernels(ptx: str) -> list[str]:
    """Return the kernels that never load, or never store, 16 bytes at once.

    Those that store nothing but partial sums need not store 16 bytes at once.
    """
    kernels = {kernel.partition("(")[0]: kernel for kernel in ptx.split(".entry ")[1:]}
    sums = re.compile("sums_of_table.*(4none|5times)")
    return [
        name
        for name, text in kernels.items()
        if not re.search(r"ld\.global\.(nc\.)?v", text)
        or not (sums.search(name) or re.search(r"st\.global\.v4", text))
    ]


@pytest.mark.parametrize("file", launch.KERNELS_BY_FILE)
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_every_kernel_compiles_and_spills_nothing(architecture: str, file: str) -> None:
    assert [t for t in map(find_compile_problem, list_compilations(file, architecture)) if t] == []


@pytest.mark.parametrize(
    ("compilation", "before", "after", "problem"),
    [
        (("layer_norm", "float32", 4, "sm_90"),
         "sizeof(T) == 2 ? blocks<T, V>(2) : 1) layer_norm_backward(", "4) layer_norm_backward(",
         "registers are spilled in"),
        (("table", "float32", 4, "sm_90"), "if constexpr (sizeof(pack) == 16)", "if constexpr (false)",
         "one by one in"),
        (("partial", "bfloat16", 1, "sm_90"), "out[i] = narrow(", "out[i] = narrower(",
         '"narrower" is undefined'),
    ],
)  # fmt: skip
def test_a_kernel_that_would_be_slow_or_fail_is_noticed(
    compilation: Any, before: str, after: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "read_source", edit_source(before, after))
    assert problem in find_compile_problem(compilation)


# Emulation


@needs_compiler
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.usefixtures("thread_order")
def test_long_rows_and_large_tables_agree(dtype: str) -> None:
    emulation.launched_kernels.clear()
    assert find_wrong_ops(cupy_backends.gpu(), make_large_cases(dtype)) == []
    assert {name.split("<")[0] for name in emulation.launched_kernels} == {
        name.split("<")[0] for names in launch.KERNELS_BY_FILE.values() for name in names
    }


# Planted faults


def edit_source(before: str, after: str) -> Callable[[str], str]:
    """Return a `launch.read_source` that replaces a text in some kernel."""
    unchanged = launch.read_source

    def source(file: str) -> str:
        text: str = unchanged(file)
        return text.replace(before, after)

    assert any(before in launch.read_source(file) for file in launch.KERNELS_BY_FILE)
    return source


FAULTS = {
    "no barrier after the write": (
        "softmax", "    }\n    __syncthreads();\n#pragma unroll", "    }\n#pragma unroll",
    ),
    "one scratch time after time": ("softmax", "turn = !turn;", ""),
    "no barrier before the sum over warps": (
        "add", "k % V] = o ? plains[k] : columns[k];\n      __syncthreads();",
        "k % V] = o ? plains[k] : columns[k];",
    ),
    "no barrier before the sum over strips": ("add", "= sum;\n    __syncthreads();", "= sum;"),
    "dropped tail of an array": ("tanh", "for (; at < n; at++)", "for (; false;)"),
    "dropped tail of a row": ("log_softmax", "e[i] = is_inside(i, n) ?", "e[i] = is_inside(i + V, n) ?"),
    "dropped rows of a strip": (
        "add", "if (i + r * WARPS >= end) continue;", "if (i + (r + 1) * WARPS >= end) continue;",
    ),
    "another sum": ("layer_norm", "sums[0] += gw.e[i] * xhat.e[i];", "sums[0] += gw.e[i];"),
    "the row after the next": (
        "layer_norm", "load(row + gridDim.x);",
        "load(row + 2 * gridDim.x < rows ? row + 2 * gridDim.x : row);",
    ),
    "sums that are not taken to a new maximum": (
        "softmax", "sum = (sum + tops) * exp(top - highest)", "sum += tops",
    ),
    "maxima that are left out at a new one": ("softmax", "sum = (sum + tops) *", "sum = sum *"),
    "what was left is taken for any cotangent": ("cross_entropy", "if (ahead && along == 1)", "if (ahead)"),
    "what was left is for another cotangent": (
        "cross_entropy", "one = 1 / (A)divisor", "one = 2 / (A)divisor",
    ),
    "nothing was left": ("cross_entropy", "if (dx) away_from", "if (false) away_from"),
    "the other argument": ("divide", "FIRST ? F::pull_first", "!FIRST ? F::pull_first"),
    "a barrier that some threads never reach": (
        "softmax", "    }\n    __syncthreads();\n#pragma unroll",
        "    }\n    if (threadIdx.x < 32) __syncthreads();\n#pragma unroll",
    ),
}  # fmt: skip
"""By name: an op whose cases must reveal it, a text of its kernel, and what replaces that text."""


@needs_compiler
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_kernel_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one of both orders of the threads: what is read before it is written is NaN, or a sum is off."""
    op, before, after = FAULTS[fault]
    cases = [c for c in make_large_cases("float32") if c.op.name == op]

    def is_caught(reverse: bool) -> bool:
        monkeypatch.setattr(emulation, "reverse_order", reverse)
        return op in find_wrong_ops(backend, cases)

    backend = cupy_backends.load_with_changes({"launch.read_source": edit_source(before, after)})
    assert is_caught(False) or is_caught(True)


@needs_compiler
@pytest.mark.parametrize(
    "change",
    [
        # Right, but slow: rows are read several times.
        {"rows.choose_block": lambda n, dtype, vector: (32, False)},
        # Right as well: a block takes further rows in its turn.
        {"rows.MAX_GRID_X": 2},
    ],
)
def test_another_launch_that_is_right_agrees(change: dict[str, Any]) -> None:
    assert find_wrong_ops(cupy_backends.load_with_changes(change), make_large_cases("float32")[:4]) == []


@needs_compiler
@pytest.mark.parametrize(("factor", "is_right"), [("1.0000002384185791f", True), ("1.0001f", False)])
def test_functions_as_inexact_as_those_of_a_gpu_agree(factor: str, is_right: bool) -> None:
    """By NVIDIA's table quotients and roots are off by 2 units in the last place there, exponentials by 1.

    Two units are a factor of 1 + 2^-22.
    """
    inexact = {
        "inline float ratio(float x, float y) { return x / y; }":
            "inline float ratio(float x, float y) { return x / y * FACTOR; }",
        "A> A rsqrt(A x) { return 1 / sqrt(x); }": "A> A rsqrt(A x) { return 1 / sqrt(x) * (A)FACTOR; }",
        "A e = exp(x < 0 ? x : -x);": "A e = exp(x < 0 ? x : -x) * (1 + ((A)FACTOR - 1) / 2);",
    }  # fmt: skip

    def source(file: str) -> str:
        text: str = launch.read_source(file)
        for before, after in inexact.items():
            assert before in text
            text = text.replace(before, after)
        return f"#define FACTOR {factor}\n{text}"

    x = 3 * normal(7, 300)
    cases = [make_case(name, "float32", x) for name in ("sigmoid", "silu", "softplus")]
    cases += [
        make_case("sqrt", "float32", x**2),
        make_case("layer_norm", "float32", x, normal(300), normal(300)),
    ]
    backend = cupy_backends.load_with_changes({"launch.read_source": source})
    assert (find_wrong_ops(backend, cases) == []) == is_right


@needs_compiler
def test_a_wrong_launch_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """With half of the blocks, what they leave out is NaN, as all memory here until somebody writes to it."""
    launch_kernel = emulation.Kernel.__call__

    def launch_half(self: Any, grid: Any, block: Any, args: Any) -> None:
        launch_kernel(self, (max(1, grid[0] // 2), *grid[1:]), block, args)

    monkeypatch.setattr(emulation.Kernel, "__call__", launch_half)
    cases = [c for c in make_large_cases("float32") if c.op.name in ("tanh", "multiply")]
    assert find_wrong_ops(cupy_backends.gpu(), cases) == ["multiply", "tanh"]
