"""One array for two arguments: cases that are judged so, and the faults that they show."""

import pytest

from gradspec.backends import load
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.shared_inputs import find_alike, one_array_may_be_given_twice
from tests.faults.caught_by_one_property import an_array_given_twice_is_one_leaf
from tests.faults.detection import list_applicable_properties, make_under_test
from tests.faults.fault import SHARED_INPUTS_PROPERTY

SQUARE = [[1.0, 2.0], [3.0, 5.0]]
CASES = [
    Case.of("multiply", "float64", [[3.0], [4.0]], {}, [1.0]),
    Case.of("matmul", "float64", [SQUARE, SQUARE], {}, SQUARE),
    Case.of("stack", "float64", [[3.0], [4.0]], {"axis": 0}, [[1.0], [2.0]]),
    Case.of("layer_norm", "float64", [SQUARE, [1.0, 2.0], [3.0, 4.0]], {}, SQUARE),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op.name)
def test_what_takes_both_for_one_leaf_is_found(case: Case) -> None:
    wrong = judge_case(one_array_may_be_given_twice, an_array_given_twice_is_one_leaf(), case)
    assert wrong.verdict == "disagree"
    assert wrong.reason.startswith("with one array for ")
    for name in ("numpy", "torch"):
        right = judge_case(one_array_may_be_given_twice, load(name), case)  # whose inputs may differ
        assert right.verdict in ("agree", "lossy")


def test_arguments_of_other_shapes_are_not_shared() -> None:
    case = Case.of("add", "float64", [[1.0, 2.0], [3.0]], {}, [1.0, 1.0])
    assert find_alike(case) is None
    judgement = judge_case(one_array_may_be_given_twice, load("numpy"), case)
    assert (judgement.verdict, judgement.informative) == ("agree", False)


@pytest.mark.parametrize(
    ("op", "is_tried"), [("maximum", False), ("clip", False), ("add", True), ("stack", True)]
)
def test_ops_whose_arguments_would_tie_are_not_tried(op: str, is_tried: bool) -> None:
    names = [name for name, _ in list_applicable_properties(make_under_test(op, load("numpy"), None))]
    assert (SHARED_INPUTS_PROPERTY in names) == is_tried
