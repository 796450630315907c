"""Is the spec right: does it agree with numerical differentiation, which shares no formula with it?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.spec import spec_agrees_with_numerical_differentiation
from gradspec.properties.running.targets import OpUnderTest


@pytest.mark.property(when=lambda s: s.op.differentiable)
@given(data=st.data())
def test_spec_agrees_with_numerical_differentiation(spec_op: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: square has half its gradient."""
    spec_op.check_law_on_cases(
        spec_agrees_with_numerical_differentiation, data, smooth=True, cases_per_example=2, max_elements=16
    )
