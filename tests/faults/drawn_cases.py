"""The cases that a property draws with a seed, and their laws, drawn once for everything tried on them."""

import itertools
import warnings
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import Phase

from gradspec.backends import Backend
from gradspec.properties.cases.program_ops import list_program_ops
from gradspec.properties.drawing.hypothesis_internals import get_inner_test, set_inner_test, set_seed
from gradspec.properties.judging.attempt import Law
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.running.perform_property import perform_property
from gradspec.properties.running.tally import Tally
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest
from tests.faults.collected_properties import properties, restrict_to

SETTINGS_OVERRIDES = {"phases": [Phase.generate], "database": None}
"""How the settings differ from those of a run: no example is remembered, and none is shrunk."""


@dataclass(frozen=True)
class DrawnCase:
    """A law, the case to judge by it, and the number of the example that it belongs to, 1 for the first."""

    example: int
    law: Law
    case: Any


def draw_cases(
    name: str, argument: str, under_test: BackendUnderTest, seed: int, parameters: dict[str, Any]
) -> list[DrawnCase]:
    """Return the cases that the property draws with this seed, as if none of them failed.

    Up to its first failure, after which Hypothesis draws no more, a property draws the same cases for
    everything with the same op, dtypes and device.
    """
    op = under_test.op if isinstance(under_test, OpUnderTest) else tuple(list_program_ops(under_test.backend))
    target = op, under_test.backend.nests, tuple(under_test.dtypes), under_test.backend.device
    key = name, argument, seed, *sorted(parameters.items()), *target
    if key not in _cache:
        _cache[key] = _draw_cases_uncached(name, argument, under_test, seed, parameters)
    return _cache[key]


_cache: dict[Any, list[DrawnCase]] = {}


def clear_cache() -> None:
    """Forget all cases, before faults of another op are tried."""
    _cache.clear()


def _draw_cases_uncached(
    name: str, argument: str, under_test: BackendUnderTest, seed: int, parameters: dict[str, Any]
) -> list[DrawnCase]:
    test: Any = properties()[name]
    inner, examples, cases = get_inner_test(test), itertools.count(1), list[DrawnCase]()
    example = 0

    def count_examples(*args: Any, **kwargs: Any) -> None:
        nonlocal example
        example = next(examples)
        inner(*args, **kwargs)

    def note_case(law: Law, _: Backend, case: Any) -> Judgement:
        cases.append(DrawnCase(example, law, case))
        return Judgement("agree")

    restricted = restrict_to(name, under_test)
    assert restricted is not None
    recorder = replace(restricted, judge_case=note_case, tally=Tally(), failure=None)
    arguments = {argument: recorder, **parameters}
    set_seed(test, seed)
    set_inner_test(test, count_examples)
    try:
        with warnings.catch_warnings(action="ignore"):
            perform_property(test, arguments, recorder, f"{name}{seed}", profile=SETTINGS_OVERRIDES)
    finally:
        set_inner_test(test, inner)
        set_seed(test, None)  # which would outweigh the global one
    return cases
