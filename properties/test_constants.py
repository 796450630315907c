"""Is each gradient right where other arguments are constants?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.constants import other_arguments_may_be_constants
from gradspec.properties.running.targets import OpUnderTest


@pytest.mark.property(
    when=lambda s: s.op.variadic or len(s.op.differentiable_arguments(len(s.op.arguments))) > 1
)
@given(data=st.data())
def test_other_arguments_may_be_constants(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: divide forgets a constant divisor."""
    op_under_test.check_law_on_cases(other_arguments_may_be_constants, data, smooth=True, cases_per_example=4)
