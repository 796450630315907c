"""Does it matter how inputs and cotangents lie in memory?"""

from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.laid_out import iterate_cases_in_every_layout, lay_out_case
from gradspec.properties.cases.layouts import LAYOUTS_OF_ANY_RANK, list_layout_names
from gradspec.properties.laws.layouts import (
    every_layout_in_turn_makes_no_difference,
    layout_makes_no_difference,
)
from gradspec.properties.running.targets import OpUnderTest

LAYOUT_CASES_PER_EXAMPLE = 12  # each array meets each of the nine layouts
LAYOUT_NUMBER_STEPS = 11, 13, 17, 19, 23, 29
"""How far each array's layout moves from case to case: primes, so that it meets all its 3, 6 or 9 layouts."""

N_PARTS_OF_LAYOUTS = 3
"""Into how many parts the cases in every layout are split, one per example; quick tries two."""


@st.composite
def laid_out_cases(draw, op_under_test: OpUnderTest) -> list[Case]:  # type: ignore[no-untyped-def]
    """Several cases, whose arrays move on to other layouts from case to case.

    Layouts drawn one by one would leave some out, because Hypothesis tends to repeat what it drew.
    """
    strategy = op_under_test.cases(
        smooth=op_under_test.op.differentiable,
        cases_per_example=LAYOUT_CASES_PER_EXAMPLE,
        prefer_many_axes=True,
    )
    cases: list[Case] = draw(strategy)
    n = max(len(case.inputs) for case in cases) + 1
    code = draw(st.integers(0, len(LAYOUTS_OF_ANY_RANK) ** n - 1))
    first = [code // len(LAYOUTS_OF_ANY_RANK) ** j for j in range(n)]
    laid_out = []
    for k, case in enumerate(cases):
        numbers = [f + k * step for f, step in zip(first, cycle(LAYOUT_NUMBER_STEPS))]
        names_by_array = [list_layout_names(x.ndim) for x in (*case.inputs, case.cotangent)]
        layouts = [names[i % len(names)] for names, i in zip(names_by_array, numbers, strict=False)]
        laid_out.append(lay_out_case(case, layouts))
    return laid_out


@given(data=st.data())
def test_layout_makes_no_difference(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: tanh ignores the negative stride of a cotangent of one axis."""
    for case in data.draw(laid_out_cases(op_under_test)):
        op_under_test.check_law(layout_makes_no_difference, case, smooth=op_under_test.op.differentiable)


@given(data=st.data())
def test_every_layout_in_turn_makes_no_difference(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: tanh takes a cotangent that is channels last for one in c order."""
    part = data.draw(st.sampled_from(range(N_PARTS_OF_LAYOUTS)))
    for op in op_under_test.forms:
        for case in iterate_cases_in_every_layout(op, op_under_test.dtypes, part, N_PARTS_OF_LAYOUTS):
            op_under_test.check_law(every_layout_in_turn_makes_no_difference, case, smooth=op.differentiable)
