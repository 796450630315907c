"""One array for two arguments: cases that are judged so, and the faults that they show."""

import numpy as np
import pytest

from gradspec.backends import load
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.shared_inputs import one_array_may_be_given_twice, share_input
from tests.faults.caught_by_one_property import an_array_given_twice_is_one_leaf

SQUARE = [[1.0, 2.0], [3.0, 5.0]]
CASES = [
    Case.of("multiply", "float64", [[3.0], [4.0]], {}, [1.0]),
    Case.of("matmul", "float64", [SQUARE, SQUARE], {}, SQUARE),
    Case.of("stack", "float64", [[3.0], [4.0]], {"axis": 0}, [[1.0], [2.0]]),
    Case.of("layer_norm", "float64", [SQUARE, [1.0, 2.0], [3.0, 4.0]], {}, SQUARE),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op.name)
def test_what_takes_both_for_one_leaf_is_found(case: Case) -> None:
    shared = share_input(case)
    assert shared is not None
    wrong = judge_case(one_array_may_be_given_twice, an_array_given_twice_is_one_leaf(), shared)
    assert wrong.verdict == "disagree"
    assert wrong.reason.startswith("with one array for ")
    for name in ("numpy", "torch"):
        right = judge_case(one_array_may_be_given_twice, load(name), shared)
        assert right.verdict in ("agree", "lossy")


def test_arguments_of_other_shapes_or_at_a_tie_are_not_shared() -> None:
    assert share_input(Case.of("add", "float64", [[1.0, 2.0], [3.0]], {}, [1.0, 1.0])) is None
    assert share_input(Case.of("maximum", "float64", [[1.0], [3.0]], {}, [1.0])) is None


def test_the_case_has_equal_arrays() -> None:
    shared = share_input(CASES[0])
    assert shared is not None
    assert np.array_equal(*shared.inputs)
