"""One fault tried with one seed: the properties one after the other, until one of them fails."""

import itertools
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import Phase

from faults.fault import Fault
from faults.properties_of import properties, speaks_of, variants
from gradspec.backends import Backend
from gradspec.properties.running.failure import Disagreement
from gradspec.properties.running.perform import perform
from gradspec.properties.running.subject import Engine, Subject
from gradspec.reference import OPS

PROFILE = {"phases": [Phase.generate], "database": None}
"""What the settings of a run differ in: nothing is remembered and, once a property has failed, nothing simplified."""

WIDEST_FIRST = ("float64", "float32", "bfloat16", "float16")


class Enough(BaseException):
    """Ends a test at its first failure: Hypothesis lets it pass, instead of trying the example again to show it."""


class Ends:
    """An engine or subject whose first failure ends the test."""

    failure: Disagreement | None

    def _obeys(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._obeys(*args, **kwargs)  # type: ignore[misc]
        except Disagreement as found:
            raise Enough from found

    def simplest(self) -> Disagreement | None:
        """The failure as it is: nobody is shown a simpler one."""
        return self.failure


class SubjectTried(Ends, Subject):
    """A subject of that kind."""


class EngineTried(Ends, Engine):
    """An engine of that kind."""


@dataclass(frozen=True)
class Killed:
    """By which property a fault was found, at which of its examples, and what it said."""

    by: str
    examples: int
    reason: str


def subjects(op: str, backend: Backend, spec: Any = None) -> dict[str, Engine]:
    """What the properties are tried on, by the argument that they take it as."""
    dtypes = [d for d in WIDEST_FIRST if d in backend.dtypes]
    found: dict[str, Engine] = {"engine": EngineTried(backend=backend, dtypes=dtypes)}
    if op in OPS:
        found["subject"] = SubjectTried(name=op, op=spec or OPS[op], backend=backend, dtypes=dtypes)
    if spec:
        found["spec"] = SubjectTried(
            name=op, op=spec, backend=replace(backend, name="spec"), dtypes=["float64"]
        )
    return found


def concerned(tried: dict[str, Engine], without: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """The properties that speak of one of these, and of which."""
    for name in properties():
        for argument, one in tried.items():
            if name not in without and speaks_of(name, one, argument):
                yield name, argument


def attempt(name: str, argument: str, tried: Engine, seed: int, more: dict[str, Any]) -> Killed | None:
    """Try one property with a seed; how it failed, or None."""
    test: Any = properties()[name]
    inner, examples = test.hypothesis.inner_test, itertools.count()

    def counted(*args: Any, **kwargs: Any) -> None:
        next(examples)
        inner(*args, **kwargs)

    test._hypothesis_internal_use_seed, test.hypothesis.inner_test = seed, counted
    try:
        with warnings.catch_warnings(action="ignore"):
            perform(test, {argument: tried, **more}, tried, f"{name}{seed}", profile=PROFILE)
    except Disagreement as found:
        return Killed(name, next(examples), found.judgement.reason)
    except AssertionError as uninformed:
        # That too few cases were informative says nothing of the fault, which that measure does not see.
        if tried.failure is not None or "informative" not in str(uninformed):
            raise
    finally:
        test.hypothesis.inner_test = inner
    return None


def tried(fault: Fault, seed: int, without: Iterable[str] = ()) -> Killed | None:
    """Try the properties on a fault, the likely one first; the first that fails, or None if none does."""
    on = subjects(fault.op, fault.plant(), fault.spec)
    order = sorted(concerned(on, without), key=lambda pair: pair[0] != fault.likely)
    for name, argument in order:
        for more in variants(name):
            if found := attempt(name, argument, on[argument], seed_of(fault, name, seed), more):
                return found
    return None


def seed_of(fault: Fault, name: str, seed: int) -> int:
    """A seed of its own for every fault and property, the same each time."""
    return zlib.crc32(f"{seed} {fault} {name}".encode())
