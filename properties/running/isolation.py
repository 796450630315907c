"""The process in which a backend runs that may hang, exit or crash.

The process lives as long as the backend lets it, so that imports and compiled kernels are paid for once.
Before every check it sends the law and the case that it is about to check. If it then hangs or dies, that is
the case to report, and the next property gets a new process.
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
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from gradspec.backends import Backend, load
from gradspec.properties.drawing.hypothesis_internals import set_global_seed
from gradspec.properties.judging.attempt import Law, judge_case, judge_case_in_fork, judge_crash
from gradspec.properties.judging.error_descriptions import describe_exit, get_message_line
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.running.failure import LawViolation, combine_violations
from gradspec.properties.running.perform_property import perform_property
from gradspec.properties.running.tally import Tally
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest
from gradspec.reference import OPS, Op

MIN_START_SECONDS = 60.0  # a new process has at least this long to import the backend
FORKED_RERUN_SECONDS = 60.0  # for the second run of a property that crashed, to find its smallest case


class UntestedPropertyError(Exception):
    """A property could not be tested in the other process; the message says what was raised there."""


@dataclass(frozen=True)
class Task:
    """A test to call in another process.

    Attributes:
        path: The file of the test.
        module: The name of its module.
        function: Its name there.
        key: The database key of its examples.
        arguments: What to call it with.
        profile: Its settings, as `extract_settings` returns them.
        seed: That of --hypothesis-seed.
        seconds: How long to repeat it with fresh examples; None for one run.
        fork_each_check: Whether every check gets a process of its own.
    """

    path: Path
    module: str
    function: str
    key: str
    arguments: Mapping[str, Any]
    profile: Mapping[str, Any]
    seed: Any = None
    seconds: float | None = None
    fork_each_check: bool = False


@dataclass(frozen=True)
class TaskOutcome:
    """The result of a task: its tally, what is only listed, the violation or other error that ended it."""

    tally: Tally
    failure: LawViolation | None = None
    error: str = ""
    listed: Mapping[str, LawViolation] = field(default_factory=dict)


class IsolatedProcess:
    """A process for backends that are not trusted; a new one is started when it is lost."""

    def __init__(self, limit: float) -> None:
        self.time_limit = limit
        self._process: Any = None
        self._pipe: Any = None
        # Shrinking a crash takes a while, and one per target is enough.
        self._targets_with_shrunk_crash: set[str] = set()
        self._found: list[LawViolation] = []  # by the task that is under way, before its process was lost

    def perform(self, task: Task, target: BackendUnderTest) -> None:
        """Do in the other process what `perform_property` does in this one.

        Raises:
            LawViolation: The backend breaks the law, or its process hangs or dies during a check.
            UntestedPropertyError: The test could not be run, or its process is lost before the first check.
        """
        self._found = []
        outcome = self._run_task(task)
        if (
            isinstance(outcome, LostProcess)
            and outcome.crashed
            and repr(target) not in self._targets_with_shrunk_crash
            and hasattr(os, "fork")
        ):
            self._targets_with_shrunk_crash.add(repr(target))
            outcome = self._shrink_crash(task, outcome)
        if isinstance(outcome, LostProcess):
            target.tally += Tally(judged=outcome.check_count)
            if outcome.last_check is None:
                raise UntestedPropertyError(f"{target.backend.name} {outcome.reason} before its first check")
            crash = target.make_violation(*outcome.last_check, judge_crash(outcome.reason, self.time_limit))
            target.tally.violations["unsafe"] = target.tally.violations.get("unsafe", 0) + 1
            if "unsafe" in target.failing_severities:
                self._found.append(crash)
            else:
                target.listed["unsafe"] = crash
        else:
            target.tally += outcome.tally
            target.listed.update(outcome.listed)
            if outcome.error:
                raise UntestedPropertyError(outcome.error)
            self._found += [outcome.failure, *outcome.failure.others] if outcome.failure else []
        if self._found:
            raise combine_violations(self._found)

    def _shrink_crash(self, task: Task, lost_process: "LostProcess") -> "TaskOutcome | LostProcess":
        """Run the task again with a process for each check, so that Hypothesis can shrink the case."""
        forking_task = Task(**{**vars(task), "fork_each_check": True, "seconds": None})
        outcome = self._run_task(forking_task, FORKED_RERUN_SECONDS)
        return outcome if isinstance(outcome, TaskOutcome) and outcome.failure else lost_process

    def _run_task(self, task: Task, max_seconds: float = float("inf")) -> "TaskOutcome | LostProcess":
        self._start()
        self._pipe.send(task)
        last_check, check_count, end = None, 0, time.monotonic() + max_seconds
        while True:
            try:
                limit = self.time_limit if last_check else max(self.time_limit, MIN_START_SECONDS)
                if time.monotonic() > end or not self._pipe.poll(limit):
                    self.stop()
                    reason = f"was not done after {self.time_limit:g} s"
                    return LostProcess(reason, False, last_check, check_count)
                message = self._pipe.recv_bytes()
            except (EOFError, ConnectionError):
                return LostProcess(self._describe_exit(), True, last_check, check_count)
            if message[:1] == b"d":
                return pickle.loads(message[1:])  # type: ignore[no-any-return]
            if message[:1] == b"f":
                self._found.append(pickle.loads(message[1:]))
                continue
            last_check, check_count = message, check_count + 1

    def _start(self) -> None:
        if self._process is None or not self._process.is_alive():
            context = get_context("spawn")  # a fork would inherit a device that is already in use
            self._pipe, far_end = context.Pipe()
            self._process = context.Process(target=serve, args=(far_end,), daemon=True)
            self._process.start()
            far_end.close()

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
    """A process that hung or died.

    Args:
        reason: How it ended, as text.
        crashed: Whether it died, rather than hung.
        last_message: Its last message: the law and the case of its last check; None before the first.
        check_count: How many checks it had begun.
    """

    def __init__(self, reason: str, crashed: bool, last_message: bytes | None, check_count: int) -> None:
        self.reason, self.crashed, self.check_count = reason, crashed, check_count
        self.last_check: tuple[Law, Any] | None = pickle.loads(last_message[1:]) if last_message else None


def serve(pipe: Connection) -> None:
    """Perform the tasks that the pipe brings until it is closed: what the other process runs."""
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
    target: BackendUnderTest = next(x for x in task.arguments.values() if isinstance(x, BackendUnderTest))
    judge = judge_case_in_fork if task.fork_each_check else judge_case
    target.judge_case = partial(_announce_and_judge, pipe, judge)
    target.announce = lambda violation: pipe.send_bytes(b"f" + pickle.dumps(violation))
    try:
        function = getattr(_import_test_module(task.path, task.module), task.function)
        set_global_seed(task.seed)
        perform_property(function, task.arguments, target, task.key, task.seconds, task.profile)
    except LawViolation as failure:
        return TaskOutcome(target.tally, failure=failure, listed=target.listed)
    except AssertionError as error:
        return TaskOutcome(target.tally, error=str(error))
    except BaseException:
        return TaskOutcome(target.tally, error=traceback.format_exc())
    return TaskOutcome(target.tally, listed=target.listed)


def _announce_and_judge(
    pipe: Connection, judge: Callable[..., Judgement], law: Law, backend: Backend, case: Any
) -> Judgement:
    pipe.send_bytes(b"c" + pickle.dumps((law, case)))
    return judge(law, backend, case)


@cache
def _import_test_module(path: Path, name: str) -> ModuleType:
    """Import the module of a test under the name that it has in the process that sent the task."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# Ops and targets are pickled by name.


def _load_op(name: str) -> Op:
    return OPS[name]


def _reduce_op(op: Op) -> Any:
    return _load_op, (op.name,)


_load_cached = cache(load)


def _make_target(
    kind: type[BackendUnderTest],
    name: str,
    source: str,
    dtypes: list[str],
    failing_severities: frozenset[str],
) -> BackendUnderTest:
    op: dict[str, Any] = {"op": OPS[name]} if kind is OpUnderTest else {}
    return kind(
        name=name,
        backend=_load_cached(source),
        source=source,
        dtypes=dtypes,
        failing_severities=failing_severities,
        **op,
    )


def _reduce_target(target: BackendUnderTest) -> Any:
    plain = target.name, target.source, list(target.dtypes), target.failing_severities
    return _make_target, (type(target), *plain)


copyreg.pickle(Op, _reduce_op)
copyreg.pickle(BackendUnderTest, _reduce_target)
copyreg.pickle(OpUnderTest, _reduce_target)
