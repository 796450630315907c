"""What a property asks with a seed: the laws and cases of all its examples, drawn once for whatever is tried on them."""

import itertools
import warnings
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import Phase

from gradspec.backends import Backend
from gradspec.properties.cases.programs import filter_menu
from gradspec.properties.drawing.hypothesis_internals import get_inner_test, set_inner_test, set_seed
from gradspec.properties.judging.attempt import Law
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.running.matrix import Tally
from gradspec.properties.running.perform import perform_property
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest
from tests.faults.collected_properties import properties

SETTINGS_OVERRIDES = {"phases": [Phase.generate], "database": None}
"""What the settings of a run differ in: nothing is remembered, and nothing simplified."""


@dataclass(frozen=True)
class DrawnCase:
    """A law, the case it is to be kept on, and the number of the example that this belongs to, 1 for the first."""

    example: int
    law: Law
    case: Any


def draw_cases(
    name: str, argument: str, under_test: BackendUnderTest, seed: int, parameters: dict[str, Any]
) -> list[DrawnCase]:
    """What the property asks of a subject, an engine or the spec with this seed, were it never answered wrongly.

    Up to its first failure, after which a run of Hypothesis draws no more, a property asks of all that have the same op,
    dtypes and device the same.
    """
    op = under_test.op if isinstance(under_test, OpUnderTest) else tuple(filter_menu(under_test.backend))
    key = (
        name,
        argument,
        seed,
        *sorted(parameters.items()),
        op,
        tuple(under_test.dtypes),
        under_test.backend.device,
    )
    if key not in _cache:
        _cache[key] = _draw_cases_uncached(name, argument, under_test, seed, parameters)
    return _cache[key]


_cache: dict[Any, list[DrawnCase]] = {}


def clear_cache() -> None:
    """Make room, before faults of another op are tried."""
    _cache.clear()


def _draw_cases_uncached(
    name: str, argument: str, under_test: BackendUnderTest, seed: int, parameters: dict[str, Any]
) -> list[DrawnCase]:
    test: Any = properties()[name]
    inner, examples, found = get_inner_test(test), itertools.count(1), list[DrawnCase]()
    number = 0

    def counted(*args: Any, **kwargs: Any) -> None:
        nonlocal number
        number = next(examples)
        inner(*args, **kwargs)

    def note(law: Law, _: Backend, case: Any) -> Judgement:
        found.append(DrawnCase(number, law, case))
        return Judgement("agree")

    noting = replace(under_test, judge_case=note, tally=Tally(), failure=None)
    set_seed(test, seed)
    set_inner_test(test, counted)
    try:
        with warnings.catch_warnings(action="ignore"):
            perform_property(
                test, {argument: noting, **parameters}, noting, f"{name}{seed}", profile=SETTINGS_OVERRIDES
            )
    finally:
        set_inner_test(test, inner)
    return found
