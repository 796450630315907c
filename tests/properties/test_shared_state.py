"""What a backend changes of its process is put back and told, in this process as in one of its own."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradspec.backends import load
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.judging.judgement import Judgement
from gradspec.properties.judging.severity import classify_severity
from gradspec.properties.judging.shared_state import FORKED
from gradspec.properties.laws.value import value_agrees
from tests.helpers.planting import make_backend_of_ops

CASE = Case.of("tanh", "float64", [[0.5, -1]], {}, [1, 2])


def judge_with(change: Callable[[], object]) -> Judgement:
    """Judge tanh of a backend that is right, and makes this change besides."""

    def tanh(x: Any) -> Any:
        change()
        return load("numpy").ops["tanh"](x)

    return judge_case(value_agrees, make_backend_of_ops({"tanh": tanh}), CASE)


def replace_functions() -> None:
    np.asarray = np.zeros = lambda *_, **__: 1 / 0  # type: ignore[assignment,misc]


def accept_anything() -> None:
    np.isfinite = np.isnan = lambda x, **_: True  # type: ignore[assignment]


def lower_the_recursion_limit() -> None:
    depth, frame = 0, sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        depth += 1
    sys.setrecursionlimit(depth + 15)


def visit_a_deleted_folder() -> None:
    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)
    folder.rmdir()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replace_functions, "replaced numpy.asarray, numpy.zeros"),
        (accept_anything, "replaced numpy.isfinite, numpy.isnan"),
        (lower_the_recursion_limit, "lowered the recursion limit"),
        (lambda: os.chdir("/"), "changed the working directory"),
        (visit_a_deleted_folder, "changed the working directory"),
        (os.fork, FORKED),
    ],
)
def test_a_change_is_put_back_and_told(change: Callable[[], object], reason: str) -> None:
    before = np.asarray, np.isnan, sys.getrecursionlimit(), Path.cwd()
    judgement = judge_with(change)
    after = np.asarray, np.isnan, sys.getrecursionlimit(), Path.cwd()
    assert after == before
    assert (judgement.verdict, judgement.reason) == ("disagree", reason)
    assert classify_severity(value_agrees, CASE, judgement) == "unsafe"


def fork_and_end() -> None:
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)


def fork_and_stay() -> None:
    if not (child := os.fork()):
        time.sleep(1000)
    children.append(child)


children: list[int] = []


@pytest.mark.parametrize(
    "change",
    [
        lambda: None,
        fork_and_end,
        fork_and_stay,
        lambda: subprocess.run([sys.executable, "-c", ""], check=True, preexec_fn=os.getpid),
        lambda: __import__("numpy.f2py"),
        lambda: np.seterr(all="raise"),
        lambda: np.random.seed(3),  # noqa: NPY002
    ],
)
def test_what_is_nobodys_else_is_no_change(change: Callable[[], object]) -> None:
    descriptors = len([*Path("/dev/fd").iterdir()])
    before = np.geterr()
    try:
        assert judge_with(change).verdict == "agree"
    finally:
        while children:
            os.kill(children[-1], signal.SIGKILL)
            os.waitpid(children.pop(), 0)
    assert np.geterr() == before
    assert len([*Path("/dev/fd").iterdir()]) == descriptors
