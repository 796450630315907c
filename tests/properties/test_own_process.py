"""A process of a backend's own, and the two places for a task."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradspec.properties.judging.process_clock as process_clock
from gradspec.backends import Backend, Unavailable, load
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.judging.error_descriptions import make_printable
from gradspec.properties.judging.own_process import Lost, OwnProcess, judge_case_in_own_process
from gradspec.properties.judging.process_clock import ProcessClock
from gradspec.properties.judging.process_server import Here, LoadFailure
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.isolation import OwnProcessPlace
from gradspec.properties.running.places import Task, TaskOutcome, ThisProcess
from tests.helpers.tasks import make_value_task

CASE = Case.of("tanh", "float64", [[0.5, -1]], {}, [1, 2])


def stand_still(step: float, looks: list[tuple[float, str, float]], patches: pytest.MonkeyPatch) -> float:
    """Return what a clock charges for looks at these times, each with the state and processor time then."""
    now = iter([0.0, *(look for look, _, _ in looks)])
    states = iter([(state, processor) for _, state, processor in looks])
    patches.setattr(process_clock, "read_process_state", lambda _: next(states))
    patches.setattr(time, "monotonic", lambda: next(now))
    clock = ProcessClock(1, step)
    for _ in looks:
        clock.look()
    return clock.seconds


@pytest.mark.parametrize(
    ("looks", "charged"),
    [
        ([(1, "S", 0.1), (2, "S", 0.1), (3, "S", 0.1)], 3),  # it sleeps, or waits for a device
        ([(1, "R", 0.9), (2, "R", 1.8), (3, "R", 2.7)], 1 + 0.9 + 0.9),  # it computes
        ([(1, "R", 0.5), (2, "R", 0.51), (3, "R", 0.52)], 1 + 0.01 + 0.01),  # others have the processors
        ([(1, "R", 1), (2, "R", 5), (3, "R", 9)], 3),  # in several threads
        ([(1, "S", 0.1), (121, "S", 0.1), (122, "S", 0.1)], 1 + 2 + 1),  # nobody looked for two minutes
        ([(1, "S", 0.1), (2, "T", 0.1), (60, "T", 0.1), (61, "S", 0.1)], 1 + 1),  # it alone was stopped
        ([(1, "", None), (2, "", None)], 2),  # there is no /proc
    ],
)
def test_a_process_is_charged_for_what_it_did_itself(
    looks: list[tuple[float, str, float]], charged: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patches:
        seconds = stand_still(1.0, looks, patches)
    assert seconds == pytest.approx(charged)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_the_state_and_the_time_of_a_process_are_read() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        end = time.monotonic() + 20
        while (process_clock.read_process_state(busy.pid)[1] or 0) < 0.05 and time.monotonic() < end:
            time.sleep(0.02)
        assert process_clock.read_process_state(busy.pid)[0] == "R"
        os.kill(busy.pid, signal.SIGSTOP)
        time.sleep(0.1)
        state, before = process_clock.read_process_state(busy.pid)
        assert state == "T"
        assert before is not None
        assert process_clock.read_process_state(busy.pid)[1] == before >= 0.05
    finally:
        busy.kill()
        busy.wait()
    assert process_clock.read_process_state(busy.pid) == ("", None)


@pytest.mark.parametrize(
    "character", [*"\x00\x1b\x7f\x9b\xad\u200b\u200f\u202e\u2066\u2028\u3164\ufeff\ue000\ufe0f"]
)
def test_what_a_terminal_obeys_or_nobody_sees_is_escaped(character: str) -> None:
    assert make_printable(f"a{character}b") == f"a{ascii(character)[1:-1]}b"


def test_what_can_be_read_is_not_escaped() -> None:
    assert make_printable("naïve 数字 λ → ±\n  x") == "naïve 数字 λ → ±\n  x"


# Requests are functions of this module, which the other process imports.


def return_pid(backend: Backend, here: Here) -> int:
    return os.getpid()


def exit_silently(backend: Backend, here: Here) -> None:
    os._exit(7)


def write_nonsense(backend: Backend, here: Here) -> None:
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"\x00\x00\x00\x04abcd")
        except OSError:
            continue
    time.sleep(60)


def start_a_child(backend: Backend, here: Here) -> int:
    """Start a process that outlives this one; where it writes is inherited."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]).pid


@pytest.fixture
def numpy_process() -> Iterator[OwnProcess]:
    process = OwnProcess("numpy", 30)
    yield process
    process.stop()


def test_a_process_is_kept_until_it_is_lost(numpy_process: OwnProcess) -> None:
    pid = numpy_process.ask(return_pid)
    assert numpy_process.ask(return_pid) == pid != os.getpid()
    lost = numpy_process.ask(exit_silently)
    assert isinstance(lost, Lost)
    assert (lost.kind, lost.reason, lost.read_check()) == ("died", "the process exited with status 7", None)
    child = numpy_process.ask(start_a_child)
    assert numpy_process.ask(return_pid) != pid
    lost = numpy_process.ask(write_nonsense)
    assert isinstance(lost, Lost)
    assert (lost.kind, lost.reason) == ("died", "wrote to the connection between its process and this one")
    end = time.monotonic() + 20
    while process_clock.read_process_state(child)[0] not in ("", "Z") and time.monotonic() < end:
        time.sleep(0.05)
    assert process_clock.read_process_state(child)[0] in ("", "Z")  # it ended with its parent


def test_a_case_is_judged_in_a_process_of_its_own() -> None:
    judgement = judge_case_in_own_process(value_agrees, "numpy", CASE)
    assert judgement == judge_case(value_agrees, load("numpy"), CASE)
    assert judgement.verdict == "agree"


def test_a_backend_that_cannot_be_loaded_is_no_verdict() -> None:
    process = OwnProcess("nowhere:backend", 30)
    failure = process.load()
    assert isinstance(failure, LoadFailure)
    assert failure.is_refusal
    assert "there is no module 'nowhere'" in failure.text
    with pytest.raises(Unavailable, match="there is no module"):
        judge_case_in_own_process(value_agrees, "nowhere:backend", CASE)


HANGING_SOURCE = """
import time
from pathlib import Path
with Path(__file__).with_name('tries').open('a') as f:
    f.write('x')
time.sleep(1000)
"""


def test_a_backend_that_hangs_when_it_is_imported_is_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hanging_backend.py").write_text(HANGING_SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    place = OwnProcessPlace("hanging_backend:backend", 0.5)
    failure = place.load()
    place.stop()
    assert isinstance(failure, Lost)
    assert (failure.kind, failure.reason) == ("late", "did not finish within 0.5 s")
    assert (tmp_path / "tries").read_text(encoding="utf-8") == "xx"
    with pytest.raises(Unavailable, match=r"did not finish within 0.5 s before its first check"):
        judge_case_in_own_process(value_agrees, "hanging_backend:backend", CASE, 0.5)


def make_task(**more: float) -> Task:
    return make_value_task("tanh", load("numpy"), "numpy", 3, **more)


def test_a_task_comes_to_the_same_in_both_places() -> None:
    place = OwnProcessPlace("numpy", 30)
    try:
        outcomes = [p.perform(make_task()) for p in (ThisProcess(), place)]
    finally:
        place.stop()
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].tally.judged > 3
    assert outcomes[0].is_complete


def test_a_task_in_either_place_ends_in_its_time() -> None:
    place = OwnProcessPlace("numpy", 30)
    try:
        once = place.perform(make_task())  # the process is started
        for p in (ThisProcess(), place):
            begin = time.monotonic()
            outcome: TaskOutcome = p.perform(make_task(seconds=1.0, max_seconds=4.0))
            assert 1.0 <= time.monotonic() - begin < 2.0
            assert outcome.is_complete
            assert outcome.tally.judged > once.tally.judged  # repeated with fresh examples
            outcome = p.perform(make_task(seconds=0.0, max_seconds=0.0))
            assert not outcome.is_complete
            assert outcome.tally.judged == 1
    finally:
        place.stop()
