"""The law of programs catches faults of engines, which no law of a single op can see."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.backends import Backend
from gradspec.properties.drawing.programs import programs
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.programs import every_gradient_of_a_program_agrees
from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.targets import BackendUnderTest
from tests.faults.engines import (
    WRONG_TRAVERSALS,
    Node,
    make_engine,
    pull_by_recursion,
    pull_newest_first,
    second_branch_is_lost,
)
from tests.faults.wrong_programs import WRONG_PROGRAMS
from tests.helpers.planting import GENERATE_ONLY_SETTINGS, find_violation


def find_program_violation(backend: Backend) -> LawViolation | None:
    """Return how the backend breaks the law, or None."""
    target = BackendUnderTest(backend=backend, dtypes=["float64", "float32"])

    @GENERATE_ONLY_SETTINGS
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        for program in data.draw(programs(target.backend, target.dtypes)):
            target.check_law(every_gradient_of_a_program_agrees, program)

    try:
        check()
    except LawViolation as violation:
        return violation
    return None


@pytest.mark.parametrize("right", [pull_newest_first, pull_by_recursion])
def test_an_engine_of_another_kind_passes(right: Callable[[Node], None]) -> None:
    assert not find_program_violation(make_engine(right))


@pytest.mark.parametrize("fault", WRONG_TRAVERSALS)
def test_a_fault_of_the_engine_is_found(fault: Callable[[Node], None]) -> None:
    assert find_program_violation(make_engine(fault))


@pytest.mark.parametrize("make_wrong_backend", WRONG_PROGRAMS)
def test_a_fault_of_ops_that_meet_is_found(make_wrong_backend: Callable[[], Backend]) -> None:
    assert find_program_violation(make_wrong_backend())


def test_a_violation_is_shown_on_the_smallest_program() -> None:
    violation = find_program_violation(make_engine(second_branch_is_lost))
    assert violation
    assert violation.case.steps == (("add", (-1, -1), {}),)  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", WRONG_TRAVERSALS)
@pytest.mark.parametrize("op", ["multiply", "add", "softmax"])
def test_no_law_about_a_single_op_sees_it(fault: Callable[[Node], None], op: str) -> None:
    assert not find_violation(every_gradient_agrees, make_engine(fault, op), smooth=True)
