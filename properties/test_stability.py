"""Is the spec as stable as its function: does its formula lose no more digits than the question does?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.backends.backend import DTYPES
from gradspec.properties.drawing.strategies import cases
from gradspec.properties.laws.stability import (
    SCALES,
    is_function_of_one_argument,
    make_grid_case,
    rounds,
    scale_inputs,
    second_derivatives_are_as_stable_as_the_function,
    spec_is_as_stable_as_its_function,
)
from gradspec.properties.running.targets import OpUnderTest

MAX_ELEMENTS = 24

GRID = 0
"""Stands for numbers of all sizes, in place of the scale that drawn ones are multiplied by."""

SECOND_ORDER_PERIOD = 6
"""One of so many cases is differentiated twice, which costs ten times as much."""


@pytest.mark.property(when=lambda s: s.op.differentiable and rounds(s.op))
@given(data=st.data())
def test_spec_is_as_stable_as_its_function(spec_op: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: tanh takes its gradient from its value."""
    drawn_cases = cases(spec_op.forms, DTYPES, cases_per_example=2, smooth=False, max_elements=MAX_ELEMENTS)
    scales = st.sampled_from([*SCALES, GRID] if is_function_of_one_argument(spec_op.op) else SCALES)
    orders = st.integers(0, SECOND_ORDER_PERIOD - 1)
    for case in data.draw(drawn_cases):
        scale, order = data.draw(st.tuples(scales, orders))
        if not all(x.size for x in case.inputs):
            continue
        if scale == GRID:
            case = make_grid_case(case.op, case.dtype, case.keywords)
        scaled = scale_inputs(case, scale or 1)
        if order == SECOND_ORDER_PERIOD - 1:
            spec_op.check_law(second_derivatives_are_as_stable_as_the_function, scaled)
        else:
            spec_op.check_law(spec_is_as_stable_as_its_function, scaled)
