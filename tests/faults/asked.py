"""What a property asks with a seed: the laws and cases of all its examples, drawn once for whatever is tried on them."""

import itertools
import warnings
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import Phase

from faults.properties_of import properties
from gradspec.backends import Backend
from gradspec.properties.judging.attempt import Law
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.laws.programs import menu_of
from gradspec.properties.running.matrix import Tally
from gradspec.properties.running.perform import perform
from gradspec.properties.running.subject import Engine, Subject

PROFILE = {"phases": [Phase.generate], "database": None}
"""What the settings of a run differ in: nothing is remembered, and nothing simplified."""


@dataclass(frozen=True)
class Asked:
    """A law, the case it is to be kept on, and the number of the example that this belongs to, 1 for the first."""

    example: int
    law: Law
    case: Any


def asked(name: str, argument: str, tried: Engine, seed: int, more: dict[str, Any]) -> list[Asked]:
    """What the property asks of a subject, an engine or the spec with this seed, were it never answered wrongly.

    Up to its first failure, after which a run of Hypothesis draws no more, a property asks of all that have the same op,
    dtypes and device the same.
    """
    op = tried.op if isinstance(tried, Subject) else tuple(menu_of(tried.backend))
    key = (name, argument, seed, *sorted(more.items()), op, tuple(tried.dtypes), tried.backend.device)
    if key not in _known:
        _known[key] = _drawn(name, argument, tried, seed, more)
    return _known[key]


_known: dict[Any, list[Asked]] = {}


def forget() -> None:
    """Make room, before faults of another op are tried."""
    _known.clear()


def _drawn(name: str, argument: str, tried: Engine, seed: int, more: dict[str, Any]) -> list[Asked]:
    test: Any = properties()[name]
    inner, examples, found = test.hypothesis.inner_test, itertools.count(1), list[Asked]()
    number = 0

    def counted(*args: Any, **kwargs: Any) -> None:
        nonlocal number
        number = next(examples)
        inner(*args, **kwargs)

    def note(law: Law, _: Backend, case: Any) -> Judgement:
        found.append(Asked(number, law, case))
        return Judgement("agree")

    noting = replace(tried, judged=note, tally=Tally(), failure=None)
    test._hypothesis_internal_use_seed, test.hypothesis.inner_test = seed, counted
    try:
        with warnings.catch_warnings(action="ignore"):
            perform(test, {argument: noting, **more}, noting, f"{name}{seed}", profile=PROFILE)
    finally:
        test.hypothesis.inner_test = inner
    return found
