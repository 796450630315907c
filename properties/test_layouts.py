"""Does it matter how inputs and cotangents lie in memory?"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.axis_orders import iterate_cases_in_every_order
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.layouts import LAYOUTS_OF_ANY_RANK, list_layout_names
from gradspec.properties.laws.layouts import layout_makes_no_difference
from gradspec.properties.running.targets import OpUnderTest
from gradspec.reference.rule import Array

LAYOUT_CASES_PER_EXAMPLE = 15  # each array meets each of the nine layouts
LAYOUT_NUMBER_STEPS = 11, 13, 17, 19, 23, 29
"""How far each array's layout moves from case to case: primes, so that it meets all its 3, 6 or 9 layouts."""

N_PARTS_OF_ORDERS = 3
"""Into how many parts the cases in every order of axes are split, one per example; quick tries two."""


def lay_out_case(case: Case, layout_numbers: Sequence[int]) -> Case:
    """Return the case in layouts by number, that of the cotangent last.

    Where a layout is "expanded", the elements of the array are made equal along an axis.
    """
    names_by_array = [list_layout_names(x) for x in (*case.inputs, case.cotangent)]
    layouts = tuple(names[k % len(names)] for names, k in zip(names_by_array, layout_numbers, strict=True))
    for i, (x, layout) in enumerate(zip(case.inputs, layouts, strict=False)):
        if layout == "expanded":
            candidates = (case.with_input(i, repeated) for repeated in iterate_repeats(x))
            case = next((c for c in candidates if c.is_smooth or not case.op.differentiable), case)
    cotangent = case.cotangent
    if layouts[-1] == "expanded":
        cotangent = next(iterate_repeats(cotangent), cotangent)
    return replace(case, cotangent=cotangent, layouts=layouts)


def iterate_repeats(x: Array) -> Iterator[Array]:
    """Yield x with its first elements along an axis in place of the others; the longest axis first."""
    for axis in sorted(range(x.ndim), key=lambda i: -x.shape[i]):
        if x.size and x.shape[axis] > 1:
            yield np.array(np.broadcast_to(x.take([0], axis), x.shape))


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
    numbers_by_case = [
        [f + k * step for f, step in zip(first, cycle(LAYOUT_NUMBER_STEPS))] for k in range(len(cases))
    ]
    return [
        lay_out_case(case, numbers[: len(case.inputs) + 1])
        for case, numbers in zip(cases, numbers_by_case, strict=True)
    ]


@given(data=st.data())
def test_layout_makes_no_difference(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: tanh ignores negative strides of the cotangent."""
    for case in data.draw(laid_out_cases(op_under_test)):
        op_under_test.check_law(layout_makes_no_difference, case, smooth=op_under_test.op.differentiable)


@given(data=st.data())
def test_order_of_axes_makes_no_difference(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: tanh takes a cotangent that is channels last for one in c order."""
    part = data.draw(st.sampled_from(range(N_PARTS_OF_ORDERS)))
    for case in iterate_cases_in_every_order(op_under_test.op, op_under_test.dtypes, part, N_PARTS_OF_ORDERS):
        op_under_test.check_law(layout_makes_no_difference, case, smooth=op_under_test.op.differentiable)
