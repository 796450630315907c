"""The Triton example: run in Triton's interpreter, its bug found, its kernels compiled for GPUs.

Skipped where Triton is not installed; `make test` installs it, by the extra `examples`.
"""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.example_runs import change, copy, run

pytestmark = [
    pytest.mark.rotating,
    pytest.mark.skipif(
        not (find_spec("torch") and find_spec("triton")),
        reason="Triton or torch is not installed: the extras `examples` and `torch` have them",
    ),
]

PYTEST = "pytest -v -p no:cacheprovider -Werror --strict-markers --hypothesis-seed=1"


def test_the_right_kernel_passes_and_the_bug_of_the_other_is_found(tmp_path: Path) -> None:
    folder = copy("triton_kernel", tmp_path)
    status, output = run(folder, PYTEST)
    assert status == 0, output
    assert "test_rms_norm PASSED" in output
    assert "test_the_stride_bug_of_silu_is_found PASSED" in output
    (script,) = (folder / "failures").glob("*.py")
    (tmp_path / script.name).write_bytes(script.read_bytes())
    status, output = run(tmp_path, script.stem, environment={"TRITON_INTERPRET": "1"})
    assert status == 1
    assert "wrong: the gradient of x" in output


def test_the_bug_is_all_that_is_wrong_with_silu(tmp_path: Path) -> None:
    folder = copy("triton_kernel", tmp_path)
    change(folder / "triton_silu.py", "(g,), (x,) = gradients,", "g, (x,) = gradients[0].contiguous(),")
    status, output = run(folder, f"{PYTEST} -k silu")
    assert status == 1
    assert "DID NOT RAISE" in output


FAULTS = {
    "the cotangent is read with the stride of x": (
        "rows.stride(0), g.stride(0)",
        "rows.stride(0), rows.stride(0)",
    ),
    "a term is missing": (" - xhat * tl.sum(gx * xhat, axis=1, keep_dims=True) / n", ""),
    "dweight is that of the first tile": ("dweight.sum(0)", "dweight[0]"),
    "rows at the end are left out": ("(row < m) & (column < n)", "(row < m - m // 64) & (column < n)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_rms_norm_is_found(tmp_path: Path, fault: str) -> None:
    folder = copy("triton_kernel", tmp_path)
    change(folder / "triton_rms_norm.py", *FAULTS[fault])
    status, output = run(folder, f"{PYTEST} -k rms_norm")
    assert status == 1
    assert re.search(r"wrong  \S+:rms_norm_formula on rms_norm \(cpu\) breaks a law: ", output), output


COMPILE = """
import os, sys
import triton_rms_norm, triton_silu
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

def type_of(name, dtype):
    if name in ("rstd_ptr", "dweight_ptr"):
        return "*fp32"
    if name.endswith("_ptr"):
        return f"*{dtype}"
    return "constexpr" if name.isupper() else "fp32" if name == "eps" else "i32"

for module in (triton_rms_norm, triton_silu):
    for kernel in (module.forward_kernel, module.backward_kernel):
        for dtype, architecture in (("fp32", 80), ("bf16", 90)):
            types = {name: type_of(name, dtype) for name in kernel.arg_names}
            sizes = {name: 64 for name in types if types[name] == "constexpr"}
            target = GPUTarget("cuda", architecture, 32)
            compiled = compile(ASTSource(kernel, types, constexprs=sizes), target=target)
            print(kernel.__name__, len(compiled.asm["cubin"]))
"""


@pytest.mark.parametrize("wrong", [False, True])
def test_the_kernels_compile_for_gpus(tmp_path: Path, wrong: bool) -> None:
    """A block that is no power of two is nothing that the interpreter minds."""
    folder = copy("triton_kernel", tmp_path)
    if wrong:
        change(folder / "triton_silu.py", "tl.arange(0, BLOCK)", "tl.arange(0, BLOCK + 1)")
    (folder / "compile_kernels.py").write_text(COMPILE, encoding="utf-8")
    status, output = run(
        folder, "compile_kernels", environment={"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    )
    assert (status == 0) != wrong, output
    assert len(re.findall(r"_kernel [1-9]", output)) == (4 if wrong else 8)
