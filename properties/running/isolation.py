"""A backend's own process as a place for tasks: it may hang, exit or crash, and is started anew.

Before every check the process says which law and case it is about to check. If it then dies, that is the case
to report, on the smallest one found; if it takes too long, the case is tried again before anything is said.
"""

import random
import time
from dataclasses import dataclass, replace
from typing import Any

from gradspec.backends import Backend, Unavailable
from gradspec.properties.drawing.hypothesis_internals import get_global_seed
from gradspec.properties.judging.attempt import Law
from gradspec.properties.judging.error_descriptions import describe_internal_error
from gradspec.properties.judging.judgement import Judgement
from gradspec.properties.judging.own_process import Lost, OwnProcess, judge_lost_check
from gradspec.properties.judging.process_server import (
    CrashOrTimeout,
    Here,
    JudgeCase,
    LoadFailure,
    RequestFailure,
    TestModules,
)
from gradspec.properties.judging.severity import classify_severity
from gradspec.properties.running.failure import LawViolation, combine_violations
from gradspec.properties.running.places import Task, TaskOutcome, ThisProcess, make_text_printable
from gradspec.properties.running.tally import Tally
from gradspec.properties.running.targets import BackendUnderTest
from gradspec.properties.running.time_left import OutOfTimeError

SHRINK_CRASH_SECONDS = 60.0  # every candidate that crashes costs a new process
GRACE_SECONDS = 0.5  # after all its time is up, for a task to come back
MAX_RUNS = 3  # of a task in which a check takes too long, but not when it is tried again


@dataclass(frozen=True)
class PerformTask:
    """The request to perform a task."""

    task: Task

    def __call__(self, backend: Backend, here: Here) -> TaskOutcome:
        target = self.task.target

        def judge(law: Law, backend: Backend, case: Any) -> Judgement:
            return here.judge(law, backend, case, Progress(get_global_seed(), target.tally))

        target.judge_case, target.announce = judge, here.keep
        try:
            return ThisProcess().perform(self.task)
        except BaseException as error:
            return TaskOutcome(target.tally, None, target.listed, describe_internal_error(error))


@dataclass(frozen=True)
class Progress:
    """How far a task has come: what is said with each case.

    Attributes:
        seed: Hypothesis' global seed.
        tally: The count of what was judged before this case.
    """

    seed: Any
    tally: Tally


class OwnProcessPlace:
    """A place for the tasks of one backend: a process of its own.

    Args:
        source: The name that the backend is loaded by.
        time_limit: The seconds that one check may take.
    """

    def __init__(self, source: str, time_limit: float) -> None:
        self._time_limit = time_limit
        self._process = OwnProcess(source, time_limit)
        # Shrinking a crash takes a while, and one per target is enough.
        self._targets_with_shrunk_crash: set[str] = set()

    def load(self) -> LoadFailure | Lost | None:
        """Load the backend there; return what went wrong. One that takes too long is tried once more."""
        failure = self._process.load()
        return self._process.load() if isinstance(failure, Lost) and failure.kind == "late" else failure

    def start(self) -> None:
        self.load()  # what goes wrong now will again, and is told then

    def ask(self, question: Any) -> Any:
        """Return the answer to a request; if there is none, a `Lost` or `RequestFailure` with the reason."""
        return self._process.ask(question)

    def stop(self) -> None:
        self._process.stop()

    def perform(self, task: Task) -> TaskOutcome:
        """Perform a task there; one that is lost is a failure on the case that was being checked.

        If a check takes too long, it is tried again alone; if that takes too long again, it is a failure. If
        it does not, the task is performed again. What was found before counts, too.
        """
        found: list[LawViolation] = []
        outcome = self._perform_to_the_end(task, found)
        if outcome.error:
            self.stop()  # whatever went wrong there must not go wrong for the next task
        return _add_found(task, outcome, found)

    def _perform_to_the_end(self, task: Task, found: list[LawViolation]) -> TaskOutcome:
        """Perform a task, and add to a list what was found in every process that was lost."""
        if task.seed is None and not task.profile.get("derandomize"):
            task = replace(task, seed=random.getrandbits(64))  # so that its cases can be drawn again
        end = time.monotonic() + task.max_seconds
        ended: Any = None
        try:
            for _ in range(MAX_RUNS):
                max_seconds = max(0.0, end - time.monotonic())
                request = PerformTask(replace(task, max_seconds=max_seconds))
                ended = self._process.ask(request, _list_modules(task), max_seconds + GRACE_SECONDS)
                if isinstance(ended, TaskOutcome):
                    return ended
                if isinstance(ended, RequestFailure):
                    return TaskOutcome(error=make_text_printable(ended.reason))
                found += [v for v in ended.read_kept() if isinstance(v, LawViolation)]
                if outcome := self._explain_loss(task, ended, end):
                    return outcome
            often = f"{ended.reason} {MAX_RUNS} times, but did when tried alone: it hangs at times"
            return self._fail(task, replace(ended, reason=often))
        except Unavailable as error:
            return TaskOutcome(error=make_text_printable(f"{task.target.backend.name}: {error}"))

    def _explain_loss(self, task: Task, lost: Lost, end: float) -> TaskOutcome | None:
        """Return the outcome of a task whose process is lost; None if the task is to be performed again."""
        check = lost.read_check()
        if lost.kind == "ended":
            return TaskOutcome(_get_tally(lost), is_complete=False)
        if lost.kind == "late" and check is None:
            return None
        if check is None or _is_expected(task, check[1]):
            return self._fail(task, lost)
        if lost.kind == "died":
            return self._shrink_crash(task, lost, check[2].seed, end) or self._fail(task, lost)
        law, case, _ = check
        judgement = self._judge(task, end, law, task.target.backend, case)
        if judgement is None:
            return TaskOutcome(_get_tally(lost), is_complete=False)
        severity = classify_severity(law, case, judgement)
        is_failure = severity in task.target.failing_severities or isinstance(judgement, CrashOrTimeout)
        return self._fail(task, lost, judgement) if is_failure else None

    def _fail(self, task: Task, lost: Lost, judgement: Judgement | None = None) -> TaskOutcome:
        """Return the outcome that blames the last check of a process, by how that ended or by a judgement."""
        check = lost.read_check()
        if check is None:
            text = f"{task.target.backend.name} {lost.reason} before its first check"
            return TaskOutcome(error=make_text_printable(text))
        judgement = judgement or judge_lost_check(lost, self._time_limit)
        return _blame(task, lost, task.target.make_violation(*check[:2], judgement))

    def _judge(self, task: Task, end: float, law: Law, backend: Backend, case: Any) -> Judgement | None:
        """Judge one case in the process, which may be lost by it; return None if there is no time.

        Raises:
            Unavailable: The process is lost before it comes to the case.
        """
        request = JudgeCase(law, case, random.getrandbits(32))
        # Hardly any law needs the module of the test, which brings Hypothesis and pytest with it.
        modules = _list_modules(task) if law.__module__ == task.module else ()
        answer = self._process.ask(request, modules, max(0.0, end - time.monotonic()))
        if isinstance(answer, Lost) and answer.kind != "ended":
            return judge_lost_check(answer, self._time_limit)
        return answer if isinstance(answer, Judgement) else None

    def _shrink_crash(self, task: Task, lost: Lost, seed: Any, end: float) -> TaskOutcome | None:
        """Draw the cases of a task here and judge each there, so that Hypothesis can shrink one that crashes.

        Nothing but a crash counts as a failure, the first one found is enough, and what takes too long ends
        it.

        Returns:
            The outcome, with the smallest crash found; None if there is none.
        """
        seconds = min(SHRINK_CRASH_SECONDS, end - time.monotonic())
        if repr(task.target) in self._targets_with_shrunk_crash or seconds <= 0:
            return None
        self._targets_with_shrunk_crash.add(repr(task.target))
        end = time.monotonic() + seconds

        def judge_crashes(law: Law, backend: Backend, case: Any) -> Judgement:
            if target.search and target.search.found:
                raise OutOfTimeError
            judgement = self._judge(task, end, law, backend, case)
            if judgement is None or judgement.reason.startswith("did not finish"):
                raise OutOfTimeError
            if isinstance(judgement, CrashOrTimeout):
                return judgement
            return Judgement("agree")

        target: BackendUnderTest = replace(
            task.target,
            tally=Tally(),
            failure=None,
            find_simpler_case=None,
            judge_case=judge_crashes,
            failing_severities=frozenset({"unsafe"}),
            listed={},
        )
        shrinking = replace(task.replace_target(target), seed=seed, seconds=None, max_seconds=seconds)
        failure = ThisProcess().perform(shrinking).failure
        return _blame(task, lost, failure) if failure else None


def _get_tally(lost: Lost) -> Tally:
    """Return the count of what was judged before the last check."""
    check = lost.read_check()
    return check[2].tally if check else Tally()


def _blame(task: Task, lost: Lost, violation: LawViolation) -> TaskOutcome:
    """Return the outcome of a task that a violation ended; it is only listed where its severity is."""
    tally, severity = _get_tally(lost), violation.severity
    tally.add(violation.judgement, severity)
    if severity in task.target.failing_severities or _is_expected(task, violation.case):
        return TaskOutcome(tally, violation)
    return TaskOutcome(tally, listed={severity or "": violation})


def _add_found(task: Task, outcome: TaskOutcome, found: list[LawViolation]) -> TaskOutcome:
    """Return the outcome with what else was found; of the same kind, what was found last is shown."""
    failing: list[LawViolation] = []
    listed: dict[str, LawViolation] = {}
    for violation in found:
        if violation.severity in task.target.failing_severities or _is_expected(task, violation.case):
            failing.append(violation)
        else:
            listed[violation.severity or ""] = violation
    for violation in found:
        outcome.tally.violations.setdefault(violation.severity or "", 1)
    outcome = replace(outcome, listed={**listed, **outcome.listed})
    if not failing:
        return outcome
    last = [outcome.failure, *outcome.failure.others] if outcome.failure else []
    return replace(outcome, failure=combine_violations([*last, *reversed(failing)]))


def _list_modules(task: Task) -> TestModules:
    return [(task.path, task.module)]


def _is_expected(task: Task, case: Any) -> bool:
    """Return whether the backend declares that it deviates there: that is neither doubted nor shrunk."""
    return task.target.find_deviation(task.function.__name__, case.dtype) is not None
