"""What a property finds besides: before its process is lost, and before its time is over."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend
from gradspec.properties.running.places import ThisProcess
from gradspec.reference import OPS
from tests.helpers.planting import make_backend_of_ops
from tests.helpers.pytest_runs import PytestRun, run_properties
from tests.helpers.tasks import make_value_task

SOURCE = """
import os
from dataclasses import replace
from pathlib import Path
import numpy as np
from gradspec.backends import load
from gradspec.reference import record

sizes = set()

def crashes_once(x):
    # It shrinks what was wrong before.
    marker = Path(__file__).with_name("crashed")
    if x.size > 2 or max(sizes) < 3 or marker.exists():
        return False
    marker.touch()
    return True

def exp(x):
    def pull(g):
        sizes.add(x.size)
        if {crashes}:
            os._exit(7)
        return {factor} * g * np.exp(x)
    return np.exp(x), (pull,)

backend = replace(load("numpy"), name="mine", ops={{"exp": record(exp)}}, known={known})
"""


def run(folder: Path, *options: str, crashes: str, factor: str = "1", known: object = ()) -> PytestRun:
    source = SOURCE.format(crashes=crashes, factor=factor, known=dict.fromkeys(known, "why"))  # type: ignore[call-overload]
    (folder / "mine.py").write_text(source, encoding="utf-8")
    fixed = ("--backend=mine:backend", "--dtype=float64", "--hypothesis-profile=default")
    return run_properties(folder, *fixed, "-k", "test_every_gradient_agrees", *options)


@pytest.mark.rotating
def test_what_is_found_is_kept_if_its_process_dies_while_it_is_shrunk(tmp_path: Path) -> None:
    crashing = run(tmp_path, crashes="crashes_once(x)", factor="(1 + (x.size > 2))")
    assert crashing.status == 1
    for title in ("wrong  exp on mine (cpu) breaks a law", "unsafe  exp on mine (cpu) breaks a law"):
        assert title in crashing.output
    (of_crash,) = [s for s in crashing.failure_scripts if "unsafe" in s.name]
    script = of_crash.read_text(encoding="utf-8")
    assert "reproduce(every_gradient_agrees, 'mine:backend', case, seconds=60)" in script
    assert "load(" not in script


LOSSY_SOURCE = """
import os
from dataclasses import replace
import numpy as np
from gradspec.backends import load
from gradspec.reference import record

calls = []

def tanh(x):
    def pull(g):
        calls.append(x)
        if len(calls) == 60:
            os._exit(7)
        return g * (1 - np.tanh(x) ** 2)
    return np.tanh(x), (pull,)

backend = replace(load("numpy"), name="mine", ops={"tanh": record(tanh)}, known={})
"""


@pytest.mark.rotating
def test_what_is_only_listed_and_the_tally_are_kept_if_the_process_dies(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(LOSSY_SOURCE, encoding="utf-8")
    options = ("--backend=mine:backend", "--dtype=float64", "--hypothesis-profile=default", "--matrix=m.json")
    crashing = run_properties(tmp_path, *options, "-k", "test_every_gradient_agrees")
    assert crashing.status == 1
    assert "unsafe  tanh on mine (cpu) breaks a law" in crashing.output
    (line,) = [line for line in crashing.output.split("\n") if line.startswith("lossy  tanh on mine: ")]
    ((lossy, judged),) = re.findall(r"(\d+) of (\d+) cases: ", line)
    (entry,) = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["entries"]
    tally = entry["tally"]
    assert tally["judged"] == int(judged) > 40
    assert tally["lossy"] == tally["violations"]["lossy"] == int(lossy) > 3
    assert tally["violations"]["unsafe"] == 1
    assert tally["informative"] > 30
    assert tally["elements"] > tally["judged"]
    assert sorted("unsafe" in s.name for s in crashing.failure_scripts) == [False, False]


@pytest.mark.rotating
def test_a_crash_is_only_listed_where_what_is_unsafe_does_not_fail(tmp_path: Path) -> None:
    crashing = run(tmp_path, "--fail-on=wrong,edge", crashes="True")
    assert crashing.status == 0, crashing.output
    (line,) = [line for line in crashing.output.split("\n") if line.startswith("unsafe  ")]
    assert "the process exited with status 7" in line


@pytest.mark.rotating
@pytest.mark.parametrize("fails", ["wrong,edge,unsafe", "wrong,edge"])
def test_a_crash_may_be_declared(tmp_path: Path, fails: str) -> None:
    declared = run(
        tmp_path, f"--fail-on={fails}", crashes="x.ndim == 2", known=["exp: every gradient agrees"]
    )
    assert declared.status == 0, declared.output
    assert "1 xfailed" in declared.output


def make_wrong_backend() -> Backend:
    def exp(x: Any) -> Any:
        if x.ndim == 2:
            raise RuntimeError("two axes")
        time.sleep(0.01)
        return OPS["exp"](x) + np.asarray(1, x.dtype)

    return replace(make_backend_of_ops({"exp": exp}), name="wrong")


@pytest.mark.parametrize("seconds", [None, 0.3])
def test_all_kinds_of_failures_share_the_time(seconds: float | None) -> None:
    task = make_value_task("exp", make_wrong_backend(), "wrong", 1000, seconds=seconds, max_seconds=2.0)
    begin = time.monotonic()
    outcome = ThisProcess().perform(task)
    assert time.monotonic() - begin < 3
    assert not outcome.error
    assert outcome.failure
    assert outcome.failure.severity in ("wrong", "raises")
