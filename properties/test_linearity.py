"""Is the pullback linear in the cotangent, and is zero exactly zero?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.linearity import pullback_is_linear_in_the_cotangent
from gradspec.properties.running.targets import OpUnderTest


@pytest.mark.property(when=lambda s: s.op.differentiable)
@given(data=st.data())
def test_pullback_is_linear_in_the_cotangent(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: the gradient clips the cotangent."""
    op_under_test.check_law_on_cases(pullback_is_linear_in_the_cotangent, data, cases_per_example=2)
