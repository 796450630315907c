"""The law of programs catches faults of engines, which no law of a single op can see."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.backends import Backend, load
from gradspec.properties.cases.programs import Program
from gradspec.properties.drawing.programs import programs
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.programs import differentiate_program, every_gradient_of_a_program_agrees
from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.simplify_programs import simplify_program
from gradspec.properties.running.targets import BackendUnderTest
from gradspec.reference import record
from tests.faults.engines import (
    WRONG_TRAVERSALS,
    Node,
    make_engine,
    pull_by_recursion,
    pull_newest_first,
    second_branch_is_lost,
)
from tests.faults.wrong_programs import WRONG_PROGRAMS, matmul_by_itself_counts_its_left_side
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
    violation = find_program_violation(make_wrong_backend())
    assert violation
    # A fault is not found because it is badly planted: the one error is the tape's, about a shape.
    reason = violation.judgement.reason
    assert not reason.startswith("raised") or "a pullback returned a gradient of shape" in reason


def test_a_violation_is_shown_on_the_smallest_program() -> None:
    violation = find_program_violation(make_engine(second_branch_is_lost))
    assert violation
    assert violation.case.steps == (("add", (-1, -1), {}),)  # type: ignore[attr-defined]


def test_a_violation_deep_in_a_program_is_shown_on_few_steps() -> None:
    violation = find_program_violation(matmul_by_itself_counts_its_left_side())
    assert violation
    program: Any = violation.case
    backend = matmul_by_itself_counts_its_left_side()
    shorter = simplify_program(program, partial(judge_case, every_gradient_of_a_program_agrees, backend))
    assert [name for name, _, _ in shorter.steps] == ["matmul"]


# Masks over an undefined branch

MASKED_SQRT = Program(
    "float64",
    1,
    (((8,), "mixed", 0), ((8,), ("sqrt", 0, "inside", 0), 1), ((8,), "real", 2)),
    (("sqrt", (-1,), {}), ("where", (-2, 0, -3), {})),
)
"""where(x > 0, sqrt(x), y), at numbers of which some are 0 or negative."""

SAFELY_MASKED_SQRT = Program(
    "float64",
    1,
    (*MASKED_SQRT.inputs, ((), ("sqrt", 0), 3)),
    (("where", (-2, -1, -4), {}), ("sqrt", (0,), {}), ("where", (-2, 1, -3), {})),
)
"""where(x > 0, sqrt(where(x > 0, x, c)), y)"""


def make_backend_of_sqrt(undefined: float) -> Backend:
    """Return the spec with another gradient of sqrt where it has none."""

    def sqrt(x: Any) -> Any:
        y = np.sqrt(x)
        return y, (lambda g: np.where(x > 0, g / 2 / y, undefined),)

    numpy = load("numpy")
    return replace(numpy, ops={**numpy.ops, "sqrt": record(sqrt)}, nests=False)


def test_the_spec_gives_nan_behind_a_mask_unless_the_argument_is_masked_too() -> None:
    x = MASKED_SQRT.drawn_inputs[0]
    with np.errstate(all="ignore"):
        masked, safe = (
            differentiate_program(load("numpy"), program) for program in (MASKED_SQRT, SAFELY_MASKED_SQRT)
        )
    np.testing.assert_array_equal(np.isnan(masked.gradients["x0"]), x <= 0)
    assert np.all(safe.gradients["x0"][x <= 0] == 0)
    np.testing.assert_array_equal(masked.value, safe.value)
    np.testing.assert_array_equal(masked.gradients["x2"], safe.gradients["x2"])


@pytest.mark.parametrize(("undefined", "verdict"), [(np.nan, "agree"), (0, "agree"), (1, "disagree")])
def test_a_gradient_behind_a_mask_is_nan_or_right(undefined: float, verdict: str) -> None:
    judgement = judge_case(every_gradient_of_a_program_agrees, make_backend_of_sqrt(undefined), MASKED_SQRT)
    assert judgement.verdict == verdict
    assert judgement.informative


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_gradient_of_what_is_masked_twice_is_never_nan(name: str) -> None:
    judgement = judge_case(every_gradient_of_a_program_agrees, load(name), SAFELY_MASKED_SQRT)
    assert judgement.verdict == "agree"
    wrong = make_wrong_backend_of_where()
    assert judge_case(every_gradient_of_a_program_agrees, wrong, SAFELY_MASKED_SQRT).verdict == "disagree"


def make_wrong_backend_of_where() -> Backend:
    """Return the spec with a `where` whose gradient of the branch not taken is NaN."""

    def where(condition: Any, x: Any, y: Any) -> Any:
        gradients = lambda g: (None, np.where(condition, g, np.nan), np.where(condition, np.nan, g))
        return np.where(condition, x, y), gradients

    numpy = load("numpy")
    return replace(numpy, ops={**numpy.ops, "where": record(where)}, nests=False)


@pytest.mark.parametrize("fault", WRONG_TRAVERSALS)
@pytest.mark.parametrize("op", ["multiply", "add", "softmax"])
def test_no_law_about_a_single_op_sees_it(fault: Callable[[Node], None], op: str) -> None:
    assert not find_violation(every_gradient_agrees, make_engine(fault, op), smooth=True)
