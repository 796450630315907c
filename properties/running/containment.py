"""A process of its own for a backend that may hang, exit or crash.

The process lives as long as the backend lets it, so that imports and compiled kernels are paid for once. Before every
check it sends what it is about to try; when it falls silent or dies, that is the case to report, and the next property
gets a new process.
"""

import copyreg
import importlib.util
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import core

from gradspec.backends import Backend, load
from gradspec.properties.judging.attempt import Law, epitaph, first_line, judged, judged_apart
from gradspec.properties.judging.attempt import ended as ended_by
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.running.failure import Disagreement
from gradspec.properties.running.matrix import Tally
from gradspec.properties.running.perform import perform
from gradspec.properties.running.subject import Engine, Subject
from gradspec.reference import OPS, Op

START = 60.0  # seconds, at the least, in which a process has to import the backend
FORKED = 60.0  # seconds for the second attempt at a property that crashed, in search of its smallest case


class Trouble(Exception):
    """A property that could not be tried: what was raised, as text."""


@dataclass(frozen=True)
class Task:
    """A test to call in another process: where it is written, and with what."""

    path: Path
    module: str
    function: str
    key: str
    arguments: Mapping[str, Any]
    profile: Mapping[str, Any]
    seed: Any = None  # of --hypothesis-seed
    seconds: float | None = None
    forked: bool = False  # whether every check gets a process of its own


@dataclass(frozen=True)
class Outcome:
    """What came of a task."""

    tally: Tally
    failure: Disagreement | None = None
    trouble: str = ""


class Keeper:
    """Keeps a process for backends that are not trusted, and starts another when it is lost."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._process: Any = None
        self._pipe: Any = None
        self._shrunk: set[str] = (
            set()
        )  # which subjects have had their crash shrunk: it takes a while, and one tells enough

    def perform(self, task: Task, tried: Engine) -> None:
        """What `running.perform` does, somewhere else. Disagreement also if the process hangs or dies."""
        ended = self._ended(task)
        if (
            isinstance(ended, Lost)
            and ended.crashed
            and repr(tried) not in self._shrunk
            and hasattr(os, "fork")
        ):
            self._shrunk.add(repr(tried))
            ended = self._smallest(task, ended)
        if isinstance(ended, Lost):
            tried.tally += Tally(judged=ended.checks)
            if ended.check is None:
                raise Trouble(f"{tried.backend.name} {ended.reason} before its first check")
            law, case = ended.check
            raise tried.broken(law, case, ended_by(ended.reason, self.limit))
        tried.tally += ended.tally
        if ended.failure:
            raise ended.failure
        if ended.trouble:
            raise Trouble(ended.trouble)

    def _smallest(self, task: Task, lost: "Lost") -> "Outcome | Lost":
        """Try once more, so that only the process of one check crashes and Hypothesis can shrink the case."""
        again = self._ended(Task(**{**vars(task), "forked": True, "seconds": None}), FORKED)
        return again if isinstance(again, Outcome) and again.failure else lost

    def _ended(self, task: Task, within: float = float("inf")) -> "Outcome | Lost":
        self._start()
        self._pipe.send(task)
        last, checks, end = None, 0, time.monotonic() + within
        while True:
            try:
                if time.monotonic() > end or not self._pipe.poll(
                    self.limit if last else max(self.limit, START)
                ):
                    self.stop()
                    return Lost(f"was not done after {self.limit:g} s", False, last, checks)
                message = self._pipe.recv_bytes()
            except (EOFError, ConnectionError):
                return Lost(self._epitaph(), True, last, checks)
            if message[:1] == b"d":
                return pickle.loads(message[1:])  # type: ignore[no-any-return]
            last, checks = message, checks + 1

    def _start(self) -> None:
        if self._process is None or not self._process.is_alive():
            context = get_context("spawn")  # a fork would inherit a device that is already in use
            self._pipe, there = context.Pipe()
            self._process = context.Process(target=serve, args=(there,), daemon=True)
            self._process.start()
            there.close()

    def _epitaph(self) -> str:
        self._process.join(5)
        code, self._process = self._process.exitcode, None
        return epitaph(code)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join(5)
            self._process = None


class Lost:
    """A process that hung or died, and what it was trying."""

    def __init__(self, reason: str, crashed: bool, last: bytes | None, checks: int) -> None:
        self.reason, self.crashed, self.checks = reason, crashed, checks
        self.check: tuple[Law, Any] | None = pickle.loads(last[1:]) if last else None


def serve(pipe: Connection) -> None:
    """The other process: performs tasks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this process
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        except Exception as error:
            outcome = Outcome(Tally(), trouble=f"{type(error).__name__}: {first_line(error)}")
        else:
            outcome = _performed(task, pipe)
        pipe.send_bytes(b"d" + pickle.dumps(outcome))


def _performed(task: Task, pipe: Connection) -> Outcome:
    tried: Engine = next(x for x in task.arguments.values() if isinstance(x, Engine))
    tried.judged = partial(_announced, pipe, judged_apart if task.forked else judged)
    try:
        function = getattr(_module(task.path, task.module), task.function)
        core.global_force_seed = task.seed
        perform(function, task.arguments, tried, task.key, task.seconds, task.profile)
    except Disagreement as failure:
        return Outcome(tried.tally, failure=failure)
    except AssertionError as error:
        return Outcome(tried.tally, trouble=str(error))
    except BaseException:
        return Outcome(tried.tally, trouble=traceback.format_exc())
    return Outcome(tried.tally)


def _announced(
    pipe: Connection, judge: Callable[..., Judgement], law: Law, backend: Backend, case: Any
) -> Judgement:
    pipe.send_bytes(b"c" + pickle.dumps((law, case)))
    return judge(law, backend, case)


@cache
def _module(path: Path, name: str) -> ModuleType:
    """The module of a test, under the name that it has in the other process."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# How ops and subjects travel: by name.


def _op(name: str) -> Op:
    return OPS[name]


def _reduced_op(op: Op) -> Any:
    return _op, (op.name,)


_loaded = cache(load)


def _engine(name: str, source: str, backend: str, dtypes: list[str]) -> Engine:
    return Engine(name=name, backend=_loaded(source), dtypes=dtypes, source=source)


def _subject(name: str, source: str, backend: str, dtypes: list[str]) -> Subject:
    return Subject(name=name, op=OPS[name], backend=_loaded(source), dtypes=dtypes, source=source)


def _reduced_engine(tried: Engine) -> Any:
    build = _subject if isinstance(tried, Subject) else _engine
    return build, (tried.name, tried.source, tried.backend.name, list(tried.dtypes))


copyreg.pickle(Op, _reduced_op)
copyreg.pickle(Engine, _reduced_engine)
copyreg.pickle(Subject, _reduced_engine)
