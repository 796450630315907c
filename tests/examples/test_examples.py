"""The examples do what they show, and what they show would find a fault."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.pytest_runs import ROOT, make_environment

EXAMPLES = ROOT / "examples"


def run(folder: Path, *arguments: str, path: Sequence[Path] = ()) -> tuple[int, str]:
    environment = make_environment()
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], *map(str, path)])
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def copy(name: str, folder: Path) -> Path:
    shutil.copytree(EXAMPLES / name, folder / name)
    return folder / name


def change(file: Path, right: str, wrong: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert right in text
    file.write_text(text.replace(right, wrong), encoding="utf-8")


PYTEST = ("pytest", "-v", "-p", "no:cacheprovider", "--hypothesis-seed=1", "test_my_kernels.py")


@pytest.mark.rotating
def test_the_test_suite_passes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    status, output = run(copy("test_suite", tmp_path), *PYTEST, "-Werror", "--strict-markers")
    assert status == 0, output
    assert "test_each_law[silu-every gradient agrees] PASSED" in output
    assert "test_each_law[rms_norm-cases of many elements agree] PASSED" in output
    assert "second derivatives" not in output


@pytest.mark.rotating
def test_the_test_suite_finds_faults(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = copy("test_suite", tmp_path)
    change(folder / "my_kernels.py", "(1 + x * (1 - s))", "(1 + x - s)")
    change(folder / "my_kernels.py", "(g * xhat).reshape", "(g * xhat)[..., :1024, :].reshape")
    change(folder / "my_kernels.py", "silu(gate)", "gelu(gate)")
    status, output = run(folder, *PYTEST)
    assert status == 1
    for test in ("test_silu", "test_geglu", "test_each_law[silu-every gradient agrees]"):
        assert f"FAILED test_my_kernels.py::{test}" in output
    assert "wrong  silu on Silu (cpu) breaks a law: every gradient agrees" in output
    assert re.search(r"reproduce: python failures/every_gradient_agrees-silu-Silu\.py", output)
    assert "FAILED test_my_kernels.py::test_each_law[silu-value agrees]" not in output


@pytest.mark.rotating
def test_a_package_with_an_op_and_a_backend_of_its_own_is_found(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder, installed = copy("own_op", tmp_path), tmp_path / "installed"
    install = ("pip", "install", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    status, output = run(folder, *install, "--target", str(installed), ".")
    assert status == 0, output
    command = ("gradspec", "verify", "--backend=my-ops", "--hypothesis-profile=quick", "--hypothesis-seed=1")
    status, output = run(tmp_path, *command, path=[installed])
    assert status == 0, output
    assert "every gradient agrees" in output
    change(installed / "my_ops" / "layer.py", "* -2 * scaled", "* -1 * scaled")
    status, output = run(tmp_path, *command, path=[installed])
    assert status == 1
    assert "wrong  my_ops.backend:gaussian_formula on my-ops (cpu)" in output


def test_the_workflow_runs_what_there_is() -> None:
    workflow = (EXAMPLES / "test_suite" / "gradients.yml").read_text(encoding="utf-8")
    commands = re.findall(r"run: (.+)", workflow)
    tests = [command.split()[1] for command in commands if command.startswith("pytest")]
    assert len(tests) == 2
    assert all((EXAMPLES / "test_suite" / test).exists() for test in tests)
    assert re.findall(r"path: (\w+)", workflow) == ["failures"]
