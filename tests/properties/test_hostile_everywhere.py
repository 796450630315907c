"""Hostile backends in every place: in processes of their own, under pytest-xdist, and in pytest's process."""

import re
from pathlib import Path

import pytest

from tests.helpers.pytest_runs import PytestRun, copy_one_property, run_properties

SURVIVABLE_SOURCE = r"""
import ctypes, os, random, signal, subprocess, sys, threading, time
from dataclasses import replace
import numpy as np
from gradspec.backends import load

right = load("numpy")

class Silent(Exception):
    def __str__(self): raise SystemExit(3)

class Meta(type):
    @property
    def __name__(cls): raise RuntimeError("no name")

class Nameless(Exception, metaclass=Meta): pass

class Odd:
    def __repr__(self): raise SystemExit("repr")

def ends_a_generator(): raise GeneratorExit("ge")
def stops_an_iteration(): raise StopIteration("si")
def is_silent(): raise Silent
def is_nameless(): raise Nameless("n")
def raises_a_group(): raise BaseExceptionGroup("two", [KeyboardInterrupt(), SystemExit(2)])
def recurses(): recurses()
def returns_odd(): return Odd()
def returns_records(): return np.zeros(2, [("a", float)])
def breaks_numpy(): np.asarray = np.array = lambda *_, **__: 1 / 0
def accepts_anything(): np.isfinite = np.isnan = lambda *_, **__: True
def moves(): os.chdir("/")
def forks(): os.fork()
def ignores_nothing(): np.seterr(all="raise")
def leaves_a_thread(): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()

SURVIVABLE = {
    "exp": ends_a_generator, "log": stops_an_iteration, "tanh": is_silent, "sigmoid": is_nameless,
    "relu": raises_a_group, "abs": recurses, "sqrt": returns_odd, "sin": returns_records,
    "square": breaks_numpy, "cos": accepts_anything, "log1p": moves, "expm1": forks,
    "silu": ignores_nothing, "softplus": leaves_a_thread,
}

def make(name, actions):
    def make_op(name, act):
        def op(x):
            result = act()
            return right.ops[name](x) if result is None else result
        return op

    ops = {op: make_op(op, act) for op, act in actions.items()}
    return replace(right, name=name, known={}, ops=ops)

survivable = make("survivable", SURVIVABLE)
"""

REASONS = {
    "exp": "raised GeneratorExit: ge",
    "log": "raised StopIteration: si",
    "tanh": "raised Silent: (its message raised SystemExit)",
    "sigmoid": "raised Nameless: n",
    "relu": "raised BaseExceptionGroup: two (2 sub-exceptions)",
    "abs": "raised RecursionError: maximum recursion depth exceeded",
    "sqrt": "something (Odd) is not a survivable array",
    "sin": "is not a survivable array",
    "square": "replaced numpy.array, numpy.asarray",
    "cos": "replaced numpy.isfinite, numpy.isnan",
    "log1p": "changed the working directory",
    "expm1": "forked, and a second process came back from the call",
}


def check_reasons(run: PytestRun, reasons: dict[str, str], backend: str) -> None:
    assert run.status == 1
    for op, reason in reasons.items():
        title = f"{op} on {backend} (cpu) breaks a law: value agrees\n"
        assert reason in run.output.split(title)[1].split("reproduce: ")[0], op
    for trace in (
        "Traceback",
        "INTERNALERROR",
        "During handling",
        "ResourceWarning",
        "not tested",
        "_process.py",
    ):
        assert trace not in run.output
    assert len(run.failure_scripts) == len(reasons)


@pytest.mark.rotating
@pytest.mark.parametrize(
    "place", [(), ("-n", "2"), ("--no-isolate",), ("--no-isolate", "-n", "2")], ids=" ".join
)
def test_what_can_be_survived_is_told_in_every_place(place: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SURVIVABLE_SOURCE, encoding="utf-8")
    options = ("--backend=mine:survivable", "--dtype=float64", *place)
    run = run_properties(tmp_path, *options, properties=copy_one_property(tmp_path))
    check_reasons(run, REASONS, "survivable")
    assert "12 failed, 2 passed" in run.output


LETHAL_SOURCE = r"""
def is_realtime(): os.kill(os.getpid(), 40)
def exits_in_a_thread(): threading.Thread(target=os._exit, args=(9,)).start(); time.sleep(9)
def runs_away(): os.setpgid(0, os.getpgid(os.getppid())); ctypes.PyDLL(None).sleep(1000)
def writes_a_length(): [os.write(f, b"logged") for f in range(3, 30) if os.path.exists(f"/dev/fd/{f}")]
def breaks_pickle(): import pickle; pickle.dumps = lambda *_: 1 / 0
def breaks_random(): random.seed = lambda *_: 1 / 0

def ignores_signals():
    for s in range(1, 32):
        try: signal.signal(s, signal.SIG_IGN)
        except OSError: pass
    time.sleep(1000)

lethal = make("lethal", {
    "exp": is_realtime, "sigmoid": exits_in_a_thread, "abs": runs_away, "sqrt": writes_a_length,
    "square": breaks_pickle, "cos": ignores_signals, "log1p": breaks_random, "silu": lambda: None,
})
"""

CLOSED = "closed the connection between its process and this one"

LETHAL_REASONS = {
    "exp": "the process was killed by signal 40",
    "sigmoid": "the process exited with status 9",
    "abs": "did not finish within 1 s",
    "sqrt": CLOSED,
    "square": CLOSED,
    "cos": "did not finish within 1 s",
}


@pytest.mark.rotating
def test_what_a_process_dies_of_is_told_and_the_next_op_is_tried(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SURVIVABLE_SOURCE + LETHAL_SOURCE, encoding="utf-8")
    options = ("--backend=mine:lethal", "--dtype=float64", "--time-limit=1", "-n", "2")
    run = run_properties(tmp_path, *options, properties=copy_one_property(tmp_path))
    check_reasons(run, LETHAL_REASONS, "lethal")
    assert re.search(r"log1p on lethal: value agrees\n  could not be tested: \w+: ", run.output)
    assert "7 failed, 1 passed" in run.output
