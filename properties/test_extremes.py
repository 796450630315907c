"""Do extreme numbers go where the spec says, and is no finite gradient lost to overflow on the way?"""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.extremes import iterate_extreme_cases
from gradspec.properties.drawing.extreme import extreme_cases
from gradspec.properties.laws.extremes import (
    extremes_go_where_the_spec_says,
    extremes_of_elementwise_ops_go_where_the_spec_says,
)
from gradspec.properties.running.targets import OpUnderTest, limit_cases_to_profile

EXTREME_CASES_PER_EXAMPLE = 8

N_PARTS_OF_CASES = 2
"""Into how many parts the rows are split, one per example.

The default profile tries all parts in all dtypes, the profile quick a few.
"""


@pytest.mark.property(when=lambda s: s.op.elementwise and len(s.op.arguments) < 3)
@given(data=st.data())
def test_extremes_of_elementwise_ops_go_where_the_spec_says(
    op_under_test: OpUnderTest, data: st.DataObject
) -> None:
    """Its own fault: divide squares the divisor."""
    dtypes = st.sampled_from(list(op_under_test.dtypes))
    dtype, part = data.draw(st.tuples(dtypes, st.sampled_from(range(N_PARTS_OF_CASES))))
    for op in op_under_test.forms:
        for case in islice(iterate_extreme_cases(op, dtype), part, None, N_PARTS_OF_CASES):
            op_under_test.check_law(extremes_of_elementwise_ops_go_where_the_spec_says, case)


@pytest.mark.property(when=lambda s: not s.op.elementwise or len(s.op.arguments) > 2)
@given(data=st.data())
def test_extremes_go_where_the_spec_says(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: sum overflows where squares do."""
    cases_per_example = limit_cases_to_profile(EXTREME_CASES_PER_EXAMPLE)
    for op in op_under_test.forms:
        for case in data.draw(extreme_cases(op, op_under_test.dtypes, cases_per_example)):
            op_under_test.check_law(extremes_go_where_the_spec_says, case)
