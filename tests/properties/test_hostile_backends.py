"""Hostile backends: what they do is contained and reported, and the run goes on for the other ops."""

import json
import os
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from gradspec.properties.judging.process_clock import read_process_state
from tests.helpers.pytest_runs import (
    PytestRun,
    copy_one_property,
    make_command,
    make_environment,
    run_properties,
    run_script,
)

HOSTILE_BACKEND_SOURCE = r"""
import ctypes, os, random, signal, sys, time
from dataclasses import replace
import numpy as np
from gradspec.backends import load

right = load("numpy")

class Unusual(BaseException): pass

def exits(x): os._exit(3)
def crashes(x): os.write(2, b"\x1b[5mlast words\n\n"); ctypes.string_at(0)
def hangs(x): time.sleep(1000)
def leaves(x): sys.exit("bye")
def interrupts(x): raise KeyboardInterrupt("\u202egnp.exe")
def is_unusual(x): raise Unusual("\x9b31m")
def returns_none(x): return None
def returns_a_list(x): return [1, 2]
def returns_nan(x): return right.ops["sqrt"](x) * np.nan
def is_fickle(x): return right.ops["sin"](x) * random.choice([1, 1.5, 2, 3, 4])
def raises(x, y): raise RuntimeError("[bold]no\x1b[31m \x00kernel & <for> ]]> this\nsecond line")
def closes(x): os.closerange(3, 1000)

def forks(x, **keywords):
    os.fork()
    return right.ops["gelu"](x, **keywords)

def is_loud(x):
    print("\x1b[31mloud" * 300_000, flush=True)
    os.write(2, b"\x1b[31mloud" * 300_000)
    return right.ops["cos"](x)

backend = replace(right, name="hostile", known={}, ops={
    "exp": exits, "log": crashes, "tanh": hangs, "sigmoid": leaves, "relu": returns_none, "add": raises,
    "abs": returns_a_list, "sqrt": returns_nan, "sin": is_fickle, "square": right.ops["square"],
    "log1p": interrupts, "expm1": is_unusual, "silu": closes, "gelu": forks, "cos": is_loud,
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
        ("tanh", "did not finish within 2 s"),
        ("sigmoid", "raised SystemExit: bye"),
        ("relu", "None (NoneType) is not a hostile array"),
        ("abs", "[1, 2] (list) is not a hostile array"),
        ("sqrt", "is nan, expected"),
        ("add", r"raised RuntimeError: [bold]no\x1b[31m \x00kernel & <for> ]]> this"),
        ("log", r"  its last words: \x1b[5mlast words"),
        ("log1p", r"raised KeyboardInterrupt: \u202egnp.exe"),
        ("expm1", r"raised Unusual: \x9b31m"),
        ("silu", "closed the connection between its process and this one"),
        ("gelu", "forked, and a second process came back from the call"),
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
    assert "_process.py" not in hostile_run.output
    assert "Traceback" not in hostile_run.output
    assert "Falsifying" not in hostile_run.output


@pytest.mark.rotating("hostile run")
@pytest.mark.xdist_group("hostile run")
def test_the_others_are_tried_and_nothing_obeys_the_backend(hostile_run: PytestRun) -> None:
    assert hostile_run.status == 1
    matrix = json.loads((hostile_run.folder / "matrix.json").read_text())
    severities = {e["op"]: e["severity"] for e in matrix["entries"]}
    assert severities == {
        **dict.fromkeys(("exp", "log", "tanh", "log1p", "silu", "gelu"), "unsafe"),
        **dict.fromkeys(("sigmoid", "add", "expm1"), "raises"),
        **dict.fromkeys(("relu", "abs", "sqrt", "sin"), "wrong"),
        **dict.fromkeys(("square", "cos"), ""),
    }
    outcomes = {e["op"]: e["outcome"] for e in matrix["entries"]}
    assert outcomes.pop("square") == outcomes.pop("cos") == "passed"
    assert set(outcomes.values()) == {"failed"}
    assert len(outcomes) == 13
    assert not {*"\x1b\x00\x9b\u202e"} & {*hostile_run.output}
    assert "loud" not in hostile_run.output
    assert len(hostile_run.output) < 20_000
    assert len(ET.parse(hostile_run.folder / "junit.xml").getroot().findall(".//failure")) == 13


@pytest.mark.rotating("hostile run")
@pytest.mark.xdist_group("hostile run")
@pytest.mark.parametrize("op", ["exp", "tanh", "sigmoid", "sqrt", "log1p", "expm1", "silu", "gelu"])
def test_the_script_of_a_hostile_backend_reproduces(hostile_run: PytestRun, op: str, tmp_path: Path) -> None:
    script = hostile_run.folder / "failures" / f"value_agrees-{op}-hostile.py"
    finished = run_script(script, tmp_path)
    assert finished.returncode == 1
    assert re.search(r"^(wrong|raises|unsafe): ", finished.stdout, re.MULTILINE)
    assert not finished.stderr
    assert not {*"\x1b\x9b\u202e"} & {*finished.stdout}
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


NOTE_PIDS_SOURCE = """
import subprocess
from pathlib import Path

if not (forked := os.fork()):
    time.sleep(1000)
started = subprocess.Popen(["sleep", "1000"])
note = Path(f"{os.getpid()}.txt")
note.write_text(f"{os.getpid()} {forked} {started.pid} {os.getppid()}")
note.rename("pids")
"""

HANGS_ONCE_SOURCE = """
import time
from dataclasses import replace
from pathlib import Path
from gradspec.backends import load

right = load("numpy")

def hangs_once(x):
    if not (flag := Path("has-hung")).exists():
        flag.touch()
        time.sleep(1000)
    return right.ops["tanh"](x)

backend = replace(right, name="mine", known={}, ops={"tanh": hangs_once})
"""


@pytest.mark.rotating
def test_a_time_limit_is_confirmed_before_it_is_a_verdict(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HANGS_ONCE_SOURCE, encoding="utf-8")
    options = ("--backend=mine:backend", "--time-limit=1")
    run = run_properties(tmp_path, *options, properties=copy_one_property(tmp_path))
    assert (tmp_path / "has-hung").exists()
    assert run.status == 0
    assert "1 passed" in run.output


@pytest.mark.rotating
def test_a_machine_that_stands_still_accuses_nobody(tmp_path: Path) -> None:
    source = (
        SLOW_BACKEND_SOURCE.replace("0.2", "0.5") + "\nimport os; open('pid', 'w').write(str(os.getpid()))"
    )
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    options = ("--backend=mine:backend", "--op=tanh", "--time-limit=1")
    process = subprocess.Popen(
        make_command(*options, properties=copy_one_property(tmp_path)),
        cwd=tmp_path,
        env=make_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        pid = wait_for_text(tmp_path / "pid")
        time.sleep(1.5)  # it is at its first cases
        for p in (process.pid, int(pid)):
            os.kill(p, signal.SIGSTOP)
        time.sleep(4)
        for p in (process.pid, int(pid)):
            os.kill(p, signal.SIGCONT)
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, out
    assert "1 passed" in out
    assert pid == (tmp_path / "pid").read_text(encoding="utf-8")  # the process was not started anew


@pytest.mark.rotating
@pytest.mark.parametrize("place", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_a_run_that_is_killed_leaves_whole_files_and_no_process(
    place: tuple[str, ...], tmp_path: Path
) -> None:
    source = HOSTILE_BACKEND_SOURCE + NOTE_PIDS_SOURCE
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    options = ("--backend=mine:backend", "--op=abs", "--op=tanh", *place)
    process = subprocess.Popen(
        make_command(*options, "-v", properties=copy_one_property(tmp_path)),
        cwd=tmp_path,
        env=make_environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_text(tmp_path / "failures" / "value_agrees-abs-hostile.py")
        pids = [int(pid) for pid in wait_for_text(tmp_path / "pids").split()]
    finally:
        process.kill()
        process.communicate()
    assert sorted(p.suffix for p in (tmp_path / "failures").iterdir()) == [".json", ".py"]
    assert wait_until(lambda: all(read_process_state(pid)[0] in ("", "Z") for pid in pids))


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Return whether a condition came true within this time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def wait_for_text(path: Path) -> str:
    """Return what is in a file once something is."""
    assert wait_until(lambda: path.exists() and path.stat().st_size > 0)
    return path.read_text(encoding="utf-8")


UNLOADABLE_SOURCES = {
    "leaves": "import os; os._exit(3)",
    "interrupts": "raise KeyboardInterrupt",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "forks": "import os; os.fork()",
    "raises": "raise BaseException('\x1b[31m\u202e')",
    "speaks": "import os; print('no driver\\n', flush=True); os._exit(3)",
    "hangs": "import time; time.sleep(1000)",
    "is_silent": "class Silent(Exception):\n    def __str__(self): raise SystemExit\nraise Silent",
    "is_number": "backend = 7",
}


@pytest.mark.rotating
def test_a_backend_that_cannot_be_imported_is_a_line_and_the_others_are_tried(tmp_path: Path) -> None:
    for name, source in UNLOADABLE_SOURCES.items():
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    warning = "import warnings; warnings.warn('old'); import numpy as np\n"
    source = "from dataclasses import replace\nfrom gradspec.backends import load\n"
    source += "backend = replace(load('numpy'), name='warns')"
    (tmp_path / "warns.py").write_text(warning + source, encoding="utf-8")
    backends = [f"--backend={name}:backend" for name in (*UNLOADABLE_SOURCES, "warns")]
    options = (*backends, "--op=tanh", "-Werror", "--time-limit=2")
    run = run_properties(tmp_path, *options, properties=copy_one_property(tmp_path))
    assert run.status == 1
    assert "1 passed, 9 errors" in run.output.splitlines()[-1]
    was_raised = "raise BaseException('\\x1b[31m\\u202e')"
    interrupt = "KeyboardInterrupt"
    late = "did not finish within 2 s when it was imported, nor when tried again; --time-limit allows more"
    silent = "(its message raised SystemExit) at is_silent.py:3 in <module>: raise Silent"
    for line in (
        "leaves:backend: the process exited with status 3 when it was imported",
        f"interrupts:backend: raised {interrupt} at interrupts.py:1 in <module>: raise {interrupt}",
        "crashes:backend: the process was killed by SIGSEGV when it was imported",
        "forks:backend: forked when it was imported, and a second process went on",
        rf"raises:backend: raised BaseException: \x1b[31m\u202e at raises.py:1 in <module>: {was_raised}",
        "speaks:backend: the process exited with status 3 when it was imported; its last words: no driver",
        f"hangs:backend: {late}",
        f"is_silent:backend: raised Silent: {silent}",
        "is_number:backend: expected a `Backend` or a function that returns one, not 7",
    ):
        assert f"error  --backend {line}\n" in run.output
    assert "Traceback" not in run.output
    assert not {*"\x1b\u202e"} & {*run.output}


def test_a_fork_on_import_is_told_in_this_process_too(tmp_path: Path) -> None:
    (tmp_path / "forks.py").write_text(UNLOADABLE_SOURCES["forks"], encoding="utf-8")
    run = run_properties(tmp_path, "--backend=forks:backend", "--no-isolate", "--collect-only")
    assert run.status == 4
    told = "ERROR: --backend forks:backend: forked when it was imported, and a second process went on\n"
    assert run.output.count("\n") == 2 * run.output.count(told) == 2


CRASHES_FROM_TWO_SOURCE = """
import math
import os
from dataclasses import replace
from gradspec.backends import load

right = load("numpy")

def crashes_from_two(x):
    return right.ops["tanh"](x) if math.prod(x.shape) < 2 else os.abort()

backend = replace(right, name="mine", known={}, ops={"tanh": crashes_from_two})
"""


@pytest.mark.rotating
def test_a_crash_is_shrunk(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CRASHES_FROM_TWO_SOURCE, encoding="utf-8")
    run = run_properties(tmp_path, "--backend=mine:backend", properties=copy_one_property(tmp_path))
    crash = "the process was killed by SIGABRT"
    case = rf"  x         = \[+0(, 0){{1,2}}\]+\n  cotangent = \[+1(, 0){{1,2}}\]+\n  {crash}"
    assert re.search(case, run.output)
