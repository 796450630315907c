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

from gradspec.backends import Backend, load
from gradspec.properties.drawing.hypothesis_internals import set_global_seed
from gradspec.properties.judging.attempt import (
    Law,
    describe_exit,
    get_message_line,
    judge_case,
    judge_case_in_fork,
)
from gradspec.properties.judging.attempt import judge_crash as ended_by
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.matrix import Tally
from gradspec.properties.running.perform import perform_property
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest
from gradspec.reference import OPS, Op

MIN_START_SECONDS = 60.0  # seconds, at the least, in which a process has to import the backend
FORKED_RERUN_SECONDS = (
    60.0  # seconds for the second attempt at a property that crashed, in search of its smallest case
)


class UntestedPropertyError(Exception):
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
    fork_each_check: bool = False  # whether every check gets a process of its own


@dataclass(frozen=True)
class TaskOutcome:
    """What came of a task."""

    tally: Tally
    failure: LawViolation | None = None
    error: str = ""


class IsolatedProcess:
    """Keeps a process for backends that are not trusted, and starts another when it is lost."""

    def __init__(self, limit: float) -> None:
        self.time_limit = limit
        self._process: Any = None
        self._pipe: Any = None
        self._targets_with_shrunk_crash: set[str] = (
            set()
        )  # which subjects have had their crash shrunk: it takes a while, and one tells enough

    def perform(self, task: Task, target: BackendUnderTest) -> None:
        """What `running.perform` does, somewhere else. Disagreement also if the process hangs or dies."""
        ended = self._run_task(task)
        if (
            isinstance(ended, LostProcess)
            and ended.crashed
            and repr(target) not in self._targets_with_shrunk_crash
            and hasattr(os, "fork")
        ):
            self._targets_with_shrunk_crash.add(repr(target))
            ended = self._shrink_crash(task, ended)
        if isinstance(ended, LostProcess):
            target.tally += Tally(judged=ended.check_count)
            if ended.last_check is None:
                raise UntestedPropertyError(f"{target.backend.name} {ended.reason} before its first check")
            law, case = ended.last_check
            raise target.make_violation(law, case, ended_by(ended.reason, self.time_limit))
        target.tally += ended.tally
        if ended.failure:
            raise ended.failure
        if ended.error:
            raise UntestedPropertyError(ended.error)

    def _shrink_crash(self, task: Task, lost: "LostProcess") -> "TaskOutcome | LostProcess":
        """Try once more, so that only the process of one check crashes and Hypothesis can shrink the case."""
        again = self._run_task(
            Task(**{**vars(task), "fork_each_check": True, "seconds": None}), FORKED_RERUN_SECONDS
        )
        return again if isinstance(again, TaskOutcome) and again.failure else lost

    def _run_task(self, task: Task, within: float = float("inf")) -> "TaskOutcome | LostProcess":
        self._start()
        self._pipe.send(task)
        last, checks, end = None, 0, time.monotonic() + within
        while True:
            try:
                if time.monotonic() > end or not self._pipe.poll(
                    self.time_limit if last else max(self.time_limit, MIN_START_SECONDS)
                ):
                    self.stop()
                    return LostProcess(f"was not done after {self.time_limit:g} s", False, last, checks)
                message = self._pipe.recv_bytes()
            except (EOFError, ConnectionError):
                return LostProcess(self._describe_exit(), True, last, checks)
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

    def _describe_exit(self) -> str:
        self._process.join(5)
        code, self._process = self._process.exitcode, None
        return describe_exit(code)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join(5)
            self._process = None


class LostProcess:
    """A process that hung or died, and what it was trying."""

    def __init__(self, reason: str, crashed: bool, last: bytes | None, checks: int) -> None:
        self.reason, self.crashed, self.check_count = reason, crashed, checks
        self.last_check: tuple[Law, Any] | None = pickle.loads(last[1:]) if last else None


def serve(pipe: Connection) -> None:
    """The other process: performs tasks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this process
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        except Exception as error:
            outcome = TaskOutcome(Tally(), error=f"{type(error).__name__}: {get_message_line(error)}")
        else:
            outcome = _perform_task(task, pipe)
        pipe.send_bytes(b"d" + pickle.dumps(outcome))


def _perform_task(task: Task, pipe: Connection) -> TaskOutcome:
    tried: BackendUnderTest = next(x for x in task.arguments.values() if isinstance(x, BackendUnderTest))
    tried.judge_case = partial(
        _announce_and_judge, pipe, judge_case_in_fork if task.fork_each_check else judge_case
    )
    try:
        function = getattr(_import_test_module(task.path, task.module), task.function)
        set_global_seed(task.seed)
        perform_property(function, task.arguments, tried, task.key, task.seconds, task.profile)
    except LawViolation as failure:
        return TaskOutcome(tried.tally, failure=failure)
    except AssertionError as error:
        return TaskOutcome(tried.tally, error=str(error))
    except BaseException:
        return TaskOutcome(tried.tally, error=traceback.format_exc())
    return TaskOutcome(tried.tally)


def _announce_and_judge(
    pipe: Connection, judge: Callable[..., Judgement], law: Law, backend: Backend, case: Any
) -> Judgement:
    pipe.send_bytes(b"c" + pickle.dumps((law, case)))
    return judge(law, backend, case)


@cache
def _import_test_module(path: Path, name: str) -> ModuleType:
    """The module of a test, under the name that it has in the other process."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# How ops and subjects travel: by name.


def _load_op(name: str) -> Op:
    return OPS[name]


def _reduce_op(op: Op) -> Any:
    return _load_op, (op.name,)


_load_cached = cache(load)


def _make_backend_under_test(name: str, source: str, backend: str, dtypes: list[str]) -> BackendUnderTest:
    return BackendUnderTest(name=name, backend=_load_cached(source), dtypes=dtypes, source=source)


def _make_op_under_test(name: str, source: str, backend: str, dtypes: list[str]) -> OpUnderTest:
    return OpUnderTest(name=name, op=OPS[name], backend=_load_cached(source), dtypes=dtypes, source=source)


def _reduce_target(target: BackendUnderTest) -> Any:
    build = _make_op_under_test if isinstance(target, OpUnderTest) else _make_backend_under_test
    return build, (target.name, target.source, target.backend.name, list(target.dtypes))


copyreg.pickle(Op, _reduce_op)
copyreg.pickle(BackendUnderTest, _reduce_target)
copyreg.pickle(OpUnderTest, _reduce_target)
