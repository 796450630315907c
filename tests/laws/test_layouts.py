"""Layouts: those that no draw leaves to chance, and the faults that each of them shows."""

import pytest

from gradspec.properties.cases.laid_out import iterate_cases_in_every_layout
from gradspec.properties.cases.layouts import AXIS_ORDERS, LAYOUTS_OF_ANY_RANK, lay_out
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.layouts import layout_makes_no_difference
from gradspec.reference import OPS
from tests.faults.registry import faults

OTHER_LAYOUTS = {*LAYOUTS_OF_ANY_RANK} - {"fortran", "transposed"}
"""Those that are no order of axes, and C order."""


@pytest.mark.parametrize("op", ["tanh", "add", "clip", "softmax"])
def test_an_array_of_four_axes_meets_every_layout(op: str) -> None:
    cases = [*iterate_cases_in_every_layout(OPS[op], ["float64"])]
    assert {case.layouts[-1] for case in cases if case.cotangent.ndim == 4} == {
        *AXIS_ORDERS[4],
        *OTHER_LAYOUTS,
    }
    assert {case.layouts[0] for case in cases if case.inputs[0].ndim == 4} >= OTHER_LAYOUTS


@pytest.mark.parametrize("op", ["sum", "mean", "max", "prod", "var", "matmul"])
def test_a_cotangent_of_several_axes_meets_every_layout_that_is_no_order_of_axes(op: str) -> None:
    cases = [*iterate_cases_in_every_layout(OPS[op], ["float64"])]
    met = {case.layouts[-1] for case in cases if case.cotangent.ndim == 4}
    assert met >= OTHER_LAYOUTS


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_parts_have_all_cases_between_them(parts: int) -> None:
    split = [[*iterate_cases_in_every_layout(OPS["sum"], ["float32"], k, parts)] for k in range(parts)]
    in_turn = [*iterate_cases_in_every_layout(OPS["sum"], ["float32"])]
    assert [repr(split[k % parts][k // parts]) for k in range(len(in_turn))] == [*map(repr, in_turn)]


def test_what_is_expanded_has_a_stride_of_zero() -> None:
    for op in ("tanh", "add", "sum", "min"):
        for case in iterate_cases_in_every_layout(OPS[op], ["float64"]):
            arrays = (*case.inputs, case.cotangent)
            for x, layout in zip(arrays, case.layouts, strict=True):
                if layout == "expanded" and x.ndim == 4:
                    assert 0 in lay_out(x, layout).strides, (op, case)


@pytest.mark.parametrize(
    "name",
    [
        "sum: the gradient takes the cotangent with rows side by side",
        "sum: the gradient takes the cotangent with no stride of zero",
        "min: the value is that read with no stride of zero",
        "min: the gradient is that read with no stride of zero",
        "var: the gradient takes the cotangent in the order of memory",
        "matmul: the value is that read with all strides forwards",
    ],
)
def test_a_kernel_that_misreads_memory_is_found_in_turn(name: str) -> None:
    fault = faults()[name]
    backend = fault.plant()
    cases = iterate_cases_in_every_layout(OPS[fault.op], ["float64", "float32"])
    assert any(judge_case(layout_makes_no_difference, backend, c).verdict == "disagree" for c in cases)
