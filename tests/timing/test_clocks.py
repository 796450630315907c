"""Clocks: a device is waited for, and a GPU is asked for its own time, by whatever library records."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gradspec.backends import load
from gradspec.timing.clocks import Instant, _make_waiting_reader, make_clock
from tests.helpers.pytest_runs import make_environment


class Device:
    """A stand-in for a GPU: its own time passes by 2 ms with each event that is recorded there."""

    def __init__(self) -> None:
        self.now_ms, self.waited_for = 0.0, list[float]()

    def record(self) -> "Event":
        self.now_ms += 2.0
        return Event(self, self.now_ms)


class Event:
    """An event of that device, with the methods that torch's and CuPy's have."""

    def __init__(self, device: Device, at_ms: float = -1.0) -> None:
        self.device, self.at_ms = device, at_ms

    def record(self) -> None:
        self.at_ms = self.device.record().at_ms

    def synchronize(self) -> None:
        self.device.waited_for.append(self.at_ms)

    def elapsed_time(self, end: "Event") -> float:
        assert end.at_ms in self.device.waited_for, "nobody has waited for the later event"
        return end.at_ms - self.at_ms


def make_library(name: str, device: Device) -> Any:
    """Return a stand-in for torch or CuPy."""
    if name == "torch":
        return SimpleNamespace(cuda=SimpleNamespace(Event=lambda enable_timing: Event(device)))
    return SimpleNamespace(
        cuda=SimpleNamespace(
            get_current_stream=lambda: SimpleNamespace(record=device.record),
            get_elapsed_time=lambda start, end: start.elapsed_time(end),
        )
    )


def _refuse_to_wait() -> None:
    raise AssertionError("nobody need wait for the device before the end")


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_a_gpu_is_asked_for_its_own_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device, array = Device(), type("Array", (), {"__module__": f"{name}.arrays"})()
    monkeypatch.setitem(sys.modules, name, make_library(name, device))
    backend = replace(load("numpy"), name="gpu", device="cuda:0", synchronize=_refuse_to_wait)
    clock = make_clock(backend, array)
    start, end = clock(), clock()
    assert device.waited_for == []
    assert end - start == pytest.approx(2e-3)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_other_work_is_waited_for(device: str) -> None:
    """Also on the CPU, where a library may return before its work is done."""
    waits = []
    backend = replace(load("numpy"), name="other", device=device, synchronize=lambda: waits.append(True))
    clock = make_clock(backend, np.ones(1))
    start, end = clock(), clock()
    assert end - start >= 0
    assert len(waits) == 2


def test_what_a_thread_waits_for_a_processor_is_left_out() -> None:
    assert Instant(now=12.0, waited=5.5) - Instant(now=10.0, waited=4.0) == 0.5


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="nobody says for how long it has waited"
)
def test_a_thread_that_others_keep_waiting_takes_as_long_as_ever() -> None:
    """On one processor, beside three processes that never rest, it waits for most of the time."""
    script = """
        import os, subprocess, sys, time
        from gradspec.backends import load
        from gradspec.timing.clocks import make_clock

        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
        try:
            clock, start = make_clock(load("numpy"), 0), time.process_time()
            first, begun = clock(), time.perf_counter()
            while time.process_time() < start + 0.1:
                pass
            print(clock() - first, time.perf_counter() - begun)
        finally:
            for other in others:
                other.kill()
    """
    command = [sys.executable, "-c", dedent(script)]
    run = subprocess.run(command, env=make_environment(), capture_output=True, text=True, check=True)
    measured, passed = map(float, run.stdout.split())
    assert passed > 0.15
    assert measured == pytest.approx(0.1, rel=0.2)


def test_what_a_backend_sleeps_counts() -> None:
    clock = make_clock(load("numpy"), np.ones(1))
    start = clock()
    time.sleep(0.02)
    assert clock() - start == pytest.approx(0.02, rel=0.3)


def test_where_nobody_says_how_long_a_thread_waits_all_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", refuse)
    assert _make_waiting_reader(-1)() == 0.0
