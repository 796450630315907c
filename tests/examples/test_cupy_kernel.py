"""The CuPy example without a GPU: compiled by NVRTC; compiled by g++, verified, with its memory checked."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.helpers.example_runs import change, copy, run

pytest.importorskip("cupy", reason="CuPy is not installed: the extra `cupy` has it, where there are wheels")
stand_ins = importlib.import_module("tests.stand_ins.backends_on_fake_cupy")
emulation = importlib.import_module("tests.stand_ins.cuda_emulation")

needs_compiler = pytest.mark.skipif(emulation.COMPILER is None, reason="there is no g++ to run kernels with")


@contextmanager
def on_fake_cupy(folder: Path) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Import the kernels and the test of a copy of the example; `cupy` is the fake one."""
    names = ("cupy_rms_norm", "test_cupy_rms_norm")
    sys.path.insert(0, str(folder))
    try:
        with stand_ins.replace_cupy():
            backend = importlib.import_module("gradspec.backends.cupy.backend")
            vars(backend)["_find_obstacle_once"] = lambda: None
            kernels, test = map(importlib.import_module, names)
            yield kernels, test
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)


def test_it_is_skipped_without_a_gpu(tmp_path: Path) -> None:
    cupy: Any = importlib.import_module("cupy")
    status, output = run(copy("cupy_kernel", tmp_path), "pytest -rs -p no:cacheprovider")
    if cupy.is_available():
        assert status == 0, output
    else:
        assert "SKIPPED [1] test_cupy_rms_norm.py" in output
        assert "there is no GPU" in output


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_it_compiles_for_gpus(tmp_path: Path, architecture: str) -> None:
    nvrtc = importlib.import_module("cupy.cuda").nvrtc
    with on_fake_cupy(copy("cupy_kernel", tmp_path)) as (kernels, _):
        source = kernels.SOURCE
    for text, compiles in ((source, True), (source.replace("const float xhat = ", "xhat = "), False)):
        handle = nvrtc.createProgram(text, "rms_norm.cu", [], [])
        try:
            nvrtc.compileProgram(handle, [f"-arch={architecture}"])
        except nvrtc.NVRTCError:
            assert not compiles, nvrtc.getProgramLog(handle)
        else:
            assert compiles
            assert all(
                name in nvrtc.getPTX(handle).decode() for name in ("rms_norm_forward", "rms_norm_backward")
            )


@needs_compiler
@pytest.mark.rotating
def test_it_passes_where_gcc_runs_it(tmp_path: Path) -> None:
    with on_fake_cupy(copy("cupy_kernel", tmp_path)) as (_, test):
        test.test_rms_norm()


# None writes where it must not, which would be the memory of this process.
FAULTS = {
    "a term is missing": (" - xhat * along", ""),
    "the last row of a block is left out": ("if (row >= m) return;", "if (row >= m || row % 4 == 3) return;"),
    "columns beyond 32 are left out": ("i < n; i += 32) y[i]", "i < n && i < 32; i += 32) y[i]"),
}


@needs_compiler
@pytest.mark.rotating
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_it_is_found(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the failure is written to
    folder = copy("cupy_kernel", tmp_path)
    change(folder / "cupy_rms_norm.py", *FAULTS[fault])
    with (
        on_fake_cupy(folder) as (_, test),
        pytest.raises(AssertionError, match=r"^wrong  \S+ on rms_norm \(cuda\) breaks a law: "),
    ):
        test.test_rms_norm()


@needs_compiler
@pytest.mark.rotating
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (9, 70)])
def test_it_touches_no_memory_but_its_own(tmp_path: Path, shape: tuple[int, int]) -> None:
    folder = copy("cupy_kernel", tmp_path)
    assert call_with_memory_checked(folder, shape) == ""
    change(folder / "cupy_rms_norm.py", "if (row >= m) return;", "if (row > m) return;")
    assert "argument" in call_with_memory_checked(folder, shape)


def call_with_memory_checked(folder: Path, shape: tuple[int, int]) -> str:
    """Return what forward and backward pass do to memory that is not theirs; empty if nothing."""
    with on_fake_cupy(folder) as (kernels, _), emulation.check_memory():
        x, g = (kernels.cupy.asarray(np.ones(shape, np.float32)) for _ in range(2))
        weight = kernels.cupy.asarray(np.ones(shape[1], np.float32))
        try:
            kernels.rms_norm.__wrapped__(x, weight)[1](g)
        except RuntimeError as error:
            return str(error)
    return ""
