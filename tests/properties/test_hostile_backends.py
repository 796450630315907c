"""Hostile backends: what they do is contained and reported, and the run goes on for the other ops."""

import json
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.helpers.pytest_runs import (
    PytestRun,
    copy_one_property,
    make_command,
    make_environment,
    run_properties,
    run_script,
)

HOSTILE_BACKEND_SOURCE = r"""
import ctypes, os, random, sys, time
from dataclasses import replace
import numpy as np
from gradspec.backends import load

right = load("numpy")

def exits(x): os._exit(3)
def crashes(x): ctypes.string_at(0)
def hangs(x): time.sleep(1000)
def leaves(x): sys.exit("bye")
def returns_none(x): return None
def returns_a_list(x): return [1, 2]
def returns_nan(x): return right.ops["sqrt"](x) * np.nan
def is_fickle(x): return right.ops["sin"](x) * random.choice([1, 1.5, 2, 3, 4])
def raises(x, y): raise RuntimeError("[bold]no\x1b[31m \x00kernel & <for> ]]> this\nsecond line")

backend = replace(right, name="hostile", known={}, ops={
    "exp": exits, "log": crashes, "tanh": hangs, "sigmoid": leaves, "relu": returns_none, "add": raises,
    "abs": returns_a_list, "sqrt": returns_nan, "sin": is_fickle, "square": right.ops["square"],
})
"""


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> PytestRun:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "mine.py").write_text(HOSTILE_BACKEND_SOURCE, encoding="utf-8")
    options = ("--backend=mine:backend", "--time-limit=2", "--matrix=matrix.json", "--junitxml=junit.xml")
    return run_properties(folder, *options, properties=copy_one_property(folder))


@pytest.mark.rotating("hostile run")
@pytest.mark.xdist_group("hostile run")
@pytest.mark.parametrize(
    ("op", "reason"),
    [
        ("exp", "the process exited with status 3"),
        ("log", "the process was killed by SIGSEGV"),
        ("tanh", "was not done after 2 s"),
        ("sigmoid", "raised SystemExit: bye"),
        ("relu", "None (NoneType) is no array of hostile"),
        ("abs", "[1, 2] (list) is no array of hostile"),
        ("sqrt", "is nan, expected"),
        ("add", r"raised RuntimeError: [bold]no\x1b[31m \x00kernel & <for> ]]> this"),
    ],
)
def test_what_a_backend_does_is_told_with_the_case_it_did_it_on(
    hostile_run: PytestRun, op: str, reason: str
) -> None:
    title = f"{op} on hostile (cpu) breaks a law: value agrees\n"
    text = hostile_run.output.split(title)[1].split("reproduce: ")[0]
    assert "in float64" in text
    assert reason in text


@pytest.mark.rotating("hostile run")
@pytest.mark.xdist_group("hostile run")
def test_the_backends_own_line_is_shown_and_none_of_ours(hostile_run: PytestRun) -> None:
    assert "at mine.py:" in hostile_run.output
    assert "attempt.py" not in hostile_run.output
    assert "Traceback" not in hostile_run.output
    assert "Falsifying" not in hostile_run.output


@pytest.mark.rotating("hostile run")
@pytest.mark.xdist_group("hostile run")
def test_the_others_are_tried_and_nothing_obeys_the_backend(hostile_run: PytestRun) -> None:
    assert hostile_run.status == 1
    matrix = json.loads((hostile_run.folder / "matrix.json").read_text())
    severities = {e["op"]: e["severity"] for e in matrix["entries"]}
    assert severities == {
        **dict.fromkeys(("exp", "log", "tanh"), "unsafe"),
        **dict.fromkeys(("sigmoid", "add"), "raises"),
        **dict.fromkeys(("relu", "abs", "sqrt", "sin"), "wrong"),
        "square": "",
    }
    outcomes = {e["op"]: e["outcome"] for e in matrix["entries"]}
    assert outcomes.pop("square") == "passed"
    assert set(outcomes.values()) == {"failed"}
    assert len(outcomes) == 9
    assert not {"\x1b", "\x00"} & {*hostile_run.output}
    assert len(ET.parse(hostile_run.folder / "junit.xml").getroot().findall(".//failure")) == 9


@pytest.mark.rotating("hostile run")
@pytest.mark.xdist_group("hostile run")
@pytest.mark.parametrize("op", ["exp", "log", "tanh", "sigmoid", "relu", "sqrt", "add"])
def test_the_script_of_a_hostile_backend_reproduces(hostile_run: PytestRun, op: str, tmp_path: Path) -> None:
    script = hostile_run.folder / "failures" / f"value_agrees-{op}-hostile.py"
    finished = run_script(script, tmp_path)
    assert finished.returncode == 1
    assert finished.stdout.startswith("disagree")
    assert not finished.stderr
    assert len(script.read_text(encoding="utf-8").splitlines()) < 20


SLOW_BACKEND_SOURCE = """
import time
from dataclasses import replace
from gradspec.backends import load

right = load("numpy")

def slow(x):
    time.sleep(0.2)
    return right.ops["tanh"](x)

backend = replace(right, name="slow", ops={"square": right.ops["square"], "tanh": slow})
"""


def restore_ctrl_c() -> None:
    """Let Ctrl-C interrupt the process: one that a shell starts in the background ignores it at first."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_tells_what_it_had(interruption: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SLOW_BACKEND_SOURCE, encoding="utf-8")
    files = ("--matrix=matrix.json", "--junitxml=junit.xml")
    options = ("--backend=mine:backend", *files, "-v", "--op=square", "--op=tanh")
    process = subprocess.Popen(
        make_command(*options, properties=copy_one_property(tmp_path)),
        cwd=tmp_path,
        env=make_environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=restore_ctrl_c,  # noqa: PLW1509 - no threads run here
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "square-slow" in line and "PASSED" in line:
            break
    time.sleep(1)
    process.send_signal(interruption)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "gradspec, interrupted" in out
    matrix = json.loads((tmp_path / "matrix.json").read_text(encoding="utf-8"))
    assert matrix["interrupted"]
    assert [e["op"] for e in matrix["entries"]] == ["square"]
    ET.parse(tmp_path / "junit.xml")
