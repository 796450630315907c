"""Is each gradient right where one array is given for two arguments?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.shared_inputs import find_alike, one_array_may_be_given_twice
from gradspec.properties.running.targets import OpUnderTest


@pytest.mark.property(
    when=lambda s: (
        s.op.kinks is None and (s.op.variadic or len(s.op.differentiable_arguments(len(s.op.arguments))) > 1)
    )
)
@given(data=st.data())
def test_one_array_may_be_given_twice(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: an array given twice is one leaf."""
    for case in data.draw(op_under_test.cases(cases_per_example=4)):
        if find_alike(case):
            op_under_test.check_law(one_array_may_be_given_twice, case)
