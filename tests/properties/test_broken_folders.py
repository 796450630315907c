"""Folders that cannot be written to: everything found is shown, and a line says what could not be written."""

import ctypes
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradspec.properties.running.files import describe_unwritten, write_atomically
from tests.helpers.pytest_runs import (
    PytestRun,
    copy_one_property,
    make_command,
    make_environment,
    run_properties,
)

WRONG_BACKEND_SOURCE = """
from dataclasses import replace
from gradspec.backends import load

right = load("numpy")
backend = replace(right, name="mine", known={}, ops={
    "tanh": lambda x: 1.5 * right.ops["tanh"](x), "square": right.ops["square"]
})
"""

OPTIONS = ("--backend=mine:backend", "--no-isolate")


def write_wrong_backend(folder: Path) -> str:
    (folder / "mine.py").write_text(WRONG_BACKEND_SOURCE, encoding="utf-8")
    return copy_one_property(folder)


def check_all_is_shown(run: PytestRun) -> None:
    assert run.status == 1
    assert "tanh on mine (cpu) breaks a law: value agrees" in run.output
    assert "cotangent = " in run.output
    assert "1 failed, 1 passed" in run.output
    for trace in ("Traceback", "INTERNALERROR", ".py:"):
        assert trace not in run.output.replace("test_value.py::", "")


@pytest.mark.rotating
def test_a_file_in_the_place_of_the_folder_costs_the_scripts_alone(tmp_path: Path) -> None:
    properties = write_wrong_backend(tmp_path)
    (tmp_path / "failures").write_text("a file", encoding="utf-8")
    run = run_properties(tmp_path, *OPTIONS, "--matrix=mine.py/x.json", properties=properties)
    check_all_is_shown(run)
    assert "error  failures/ could not be written: a file is in the place of a folder\n" in run.output
    assert (
        "error  --matrix mine.py/x.json could not be written: a file is in the place of a folder\n"
        in run.output
    )
    assert "reproduce" not in run.output


@pytest.mark.rotating
def test_a_matrix_that_cannot_be_written_makes_the_run_fail_once_all_is_shown(tmp_path: Path) -> None:
    properties = write_wrong_backend(tmp_path)
    (tmp_path / "out.json").mkdir()
    run = run_properties(tmp_path, *OPTIONS, "--op=square", "--matrix=out.json", properties=properties)
    assert run.status == 1
    assert "1 error" in run.output.splitlines()[-1]
    assert run.output.index("✓ agrees") < run.output.index("error  --matrix out.json could not be written: ")
    assert "1 passed" in run.output
    assert "Traceback" not in run.output
    assert [*(tmp_path / "out.json").iterdir()] == []


def fill_the_disk() -> None:
    """Let no file of this process become larger than 200 bytes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))


@pytest.mark.rotating
def test_a_full_disk_loses_nothing_that_is_shown(tmp_path: Path) -> None:
    properties = write_wrong_backend(tmp_path)
    finished = subprocess.run(
        make_command(*OPTIONS, "--matrix=out.json", "--junitxml=out.xml", properties=properties),
        cwd=tmp_path,
        env=make_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        preexec_fn=fill_the_disk,
    )
    check_all_is_shown(PytestRun(finished.returncode, finished.stdout, tmp_path))
    assert "error  failures/ could not be written: File too large\n" in finished.stdout
    assert "error  --matrix out.json could not be written: File too large\n" in finished.stdout
    assert "error  --junitxml out.xml could not be written: File too large\n" in finished.stdout
    assert "generated xml" not in finished.stdout
    assert [p.name for p in (tmp_path / "failures").iterdir()] == []
    assert not [*tmp_path.glob("out.*")]


PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # of Linux


def obey_permissions() -> None:
    """Let permissions hold for what this process executes, as they do for everyone but root."""
    if os.getuid() == 0 and ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0):
        os._exit(1)


@pytest.mark.rotating
@pytest.mark.skipif(sys.platform != "linux" and os.getuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("is_there", [True, False], ids=["failures", "no failures"])
def test_a_folder_that_is_read_only_costs_the_files_alone(is_there: bool, tmp_path: Path) -> None:
    properties = write_wrong_backend(tmp_path)
    if is_there:
        (tmp_path / "failures").mkdir(mode=0o555)
    tmp_path.chmod(0o555)
    try:
        finished = subprocess.run(
            make_command(
                *OPTIONS, "-Werror", "--matrix=out.json", "--junitxml=out.xml", properties=properties
            ),
            cwd=tmp_path,
            env=make_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            preexec_fn=obey_permissions,
        )
    finally:
        tmp_path.chmod(0o755)
    check_all_is_shown(PytestRun(finished.returncode, finished.stdout, tmp_path))
    assert "error  failures/ could not be written: Permission denied\n" in finished.stdout
    assert "error  --matrix out.json could not be written: Permission denied\n" in finished.stdout
    assert "error  --junitxml out.xml could not be written: Permission denied\n" in finished.stdout
    assert not [*tmp_path.glob("out.*"), *tmp_path.glob("failures/*")]


DELETING_PLUGIN_SOURCE = """
from pathlib import Path

def pytest_runtest_logreport(report):
    for file in Path("failures").glob("*"):
        file.unlink()
"""


@pytest.mark.rotating
@pytest.mark.parametrize(("fail_on", "status"), [("wrong", 1), ("edge", 0)], ids=["failures", "only listed"])
def test_what_another_run_deletes_is_there_again_at_the_end(
    tmp_path: Path, fail_on: str, status: int
) -> None:
    properties = write_wrong_backend(tmp_path)
    (tmp_path / "deleting.py").write_text(DELETING_PLUGIN_SOURCE, encoding="utf-8")
    options = (*OPTIONS, f"--fail-on={fail_on}", "-p", "deleting")
    run = run_properties(tmp_path, *options, properties=properties)
    assert run.status == status
    assert sorted(p.suffix for p in (tmp_path / "failures").iterdir()) == [".json", ".py"]
    assert str(run.failure_scripts[0].relative_to(tmp_path)) in run.output


def test_two_runs_at_once_leave_what_both_of_them_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_atomically(tmp_path / "same.json", name * 9)
    assert [p.read_text(encoding="utf-8") for p in tmp_path.iterdir()] == ["b" * 9]


def test_a_file_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "matrix.json"
    write_atomically(file, "before")

    def write_half(path: Path, text: str, **_: Any) -> None:
        path.write_bytes(text[:2].encode())
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patches:
        patches.setattr(Path, "write_text", write_half)
        with pytest.raises(OSError, match="No space") as caught:
            write_atomically(file, "after")
    assert describe_unwritten("x", caught.value) == "x could not be written: No space left on device"
    assert [p.name for p in tmp_path.iterdir()] == ["matrix.json"]
    assert file.read_text(encoding="utf-8") == "before"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_device_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    link = tmp_path / "link"  # a fault in what is tested would replace the device itself
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        write_atomically(link, "text")
    assert link.is_symlink()
    assert [*tmp_path.iterdir()] == [link]
