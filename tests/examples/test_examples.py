"""The examples do what they show, and what they show would find a fault."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.example_runs import EXAMPLES, change, copy, run
from tests.helpers.pytest_runs import ROOT, make_environment

PYTEST = "pytest -v -p no:cacheprovider --hypothesis-seed=1"


def test_each_example_is_listed() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\)", text, re.MULTILINE)
    folders = [path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name[0] not in "._"]
    assert sorted(listed) == sorted((name, name) for name in folders)
    assert "(examples/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.rotating
def test_pytest_finds_what_the_tests_import_where_they_are() -> None:
    """The command itself: `python -m pytest` imports from the current folder in any case."""
    pytest.importorskip("torch")
    command = [
        str(Path(sys.executable).with_name("pytest")),
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        command, cwd=EXAMPLES / "own_op", env=make_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.rotating
def test_the_test_suite_passes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    status, output = run(copy("test_suite", tmp_path), f"{PYTEST} -Werror --strict-markers")
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
    status, output = run(folder, PYTEST)
    assert status == 1
    for test in ("test_silu", "test_geglu", "test_each_law[silu-every gradient agrees]"):
        assert f"FAILED test_my_kernels.py::{test}" in output
    assert "wrong  silu on Silu (cpu) breaks a law: every gradient agrees" in output
    assert re.search(r"reproduce: python failures/every_gradient_agrees-silu-Silu\.py", output)
    assert "FAILED test_my_kernels.py::test_each_law[silu-value agrees]" not in output
