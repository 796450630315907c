"""Where a property is tried: a task goes there; a tally, and a failure if there is one, come back.

That is in this process, or in one of the backend's own (`isolation`). What tries properties knows only
`Place`, and not which of these it has.
"""

import copyreg
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

from gradspec.backends.addresses import find_op
from gradspec.properties.drawing.hypothesis_internals import get_global_seed, set_global_seed
from gradspec.properties.judging.error_descriptions import describe_internal_error, make_printable
from gradspec.properties.judging.process_server import import_test_module, load_once
from gradspec.properties.judging.shared_samples import SharedSamples
from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.perform_property import perform_property
from gradspec.properties.running.tally import Tally
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest
from gradspec.reference import Op


@dataclass(frozen=True)
class Task:
    """A property to try on a target.

    Attributes:
        function: The test; in another process, that of its name in its module.
        path: The file of the test.
        module: The name of its module, which need not be on any path.
        key: The database key of its examples.
        arguments: What to call it with, the target among them.
        profile: Its settings, as `extract_settings` returns them.
        seed: What its cases are drawn from; None for one of each test's own.
        seconds: How long to repeat it with fresh examples; None for one run.
        max_seconds: How long it may take in all.
        replays: Whether examples that failed are kept and tried again: not with a seed of the user's.
    """

    function: Callable[..., Any]
    path: Path
    module: str
    key: str
    arguments: Mapping[str, Any]
    profile: Mapping[str, Any]
    seed: Any = None
    seconds: float | None = None
    max_seconds: float = float("inf")
    replays: bool = False

    def __reduce__(self) -> Any:
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "function"}
        return _restore_task, (self.function.__name__, plain)

    @property
    def target(self) -> BackendUnderTest:
        return next(x for x in self.arguments.values() if isinstance(x, BackendUnderTest))

    def replace_target(self, target: BackendUnderTest) -> "Task":
        """Return the task with another target in place of its own."""
        arguments = {name: target if x is self.target else x for name, x in self.arguments.items()}
        return replace(self, arguments=arguments)


@dataclass(frozen=True)
class TaskOutcome:
    """What comes back of a task.

    Attributes:
        tally: The count of what was judged.
        failure: The violation found, if any.
        listed: The violations of severities that do not fail.
        error: Why the property could not be tested, if it could not; printable.
        is_complete: Whether there was time for as many examples as its settings ask for.
    """

    tally: Tally = field(default_factory=Tally)
    failure: LawViolation | None = None
    listed: Mapping[str, LawViolation] = field(default_factory=dict)
    error: str = ""
    is_complete: bool = True


class UntestedPropertyError(Exception):
    """A property could not be tested; the message says why."""


class Place(Protocol):
    """Where tasks are performed."""

    def start(self) -> None:
        """Do what takes time before the first task, if anything does and has not been done."""
        ...

    def perform(self, task: Task) -> TaskOutcome:
        """Perform a task, whatever the backend does; Ctrl-C comes through, and what pytest raises to skip."""
        ...

    def stop(self) -> None:
        """End what the place has started."""
        ...


class ThisProcess:
    """This process, for backends that are trusted.

    Args:
        shared: What keeps the spec's samples of equal cases, where several backends are tried.
    """

    def __init__(self, shared: SharedSamples | None = None) -> None:
        self._shared = shared

    def start(self) -> None:
        pass

    def perform(self, task: Task) -> TaskOutcome:
        target = task.target
        try:
            subject = task.function.__name__, target.name
            with _use_seed(task.seed), self._shared.use_for(subject) if self._shared else nullcontext():
                is_complete = perform_property(
                    task.function,
                    task.arguments,
                    target,
                    task.key,
                    task.seconds,
                    task.profile,
                    task.max_seconds,
                    task.replays,
                )
        except LawViolation as failure:
            return TaskOutcome(target.tally, failure, target.listed)
        except AssertionError as error:
            return TaskOutcome(target.tally, None, target.listed, make_text_printable(str(error)))
        except Exception as error:
            return TaskOutcome(target.tally, None, target.listed, describe_internal_error(error))
        return TaskOutcome(target.tally, listed=target.listed, is_complete=is_complete)

    def stop(self) -> None:
        pass


def make_text_printable(text: str) -> str:
    """Return a text of many lines with everything escaped that a terminal obeys."""
    return "\n".join(map(make_printable, text.split("\n")))


@contextmanager
def _use_seed(seed: Any) -> Iterator[None]:
    before = get_global_seed()
    set_global_seed(seed)
    try:
        yield
    finally:
        set_global_seed(before)


# A task is sent to another process. Tests and targets are pickled by name, ops by address.


def _restore_task(name: str, plain: dict[str, Any]) -> Task:
    import_test_module(plain["path"], plain["module"])
    return Task(function=getattr(sys.modules[plain["module"]], name), **plain)


def _make_target(
    kind: type[BackendUnderTest],
    name: str,
    source: str,
    dtypes: list[str],
    failing_severities: frozenset[str],
    forms: Sequence[Op],
) -> BackendUnderTest:
    op: dict[str, Any] = {"op": find_op(name), "forms": forms} if kind is OpUnderTest else {}
    return kind(
        name=name,
        backend=load_once(source),
        source=source,
        dtypes=dtypes,
        failing_severities=failing_severities,
        **op,
    )


def _reduce_target(target: BackendUnderTest) -> Any:
    plain = target.name, target.source, list(target.dtypes), target.failing_severities
    return _make_target, (type(target), *plain, list(getattr(target, "forms", ())))


copyreg.pickle(BackendUnderTest, _reduce_target)
copyreg.pickle(OpUnderTest, _reduce_target)
