"""Is every gradient right, for a cotangent that is random and never uniform?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.running.targets import OpUnderTest


@pytest.mark.property(when=lambda s: s.op.differentiable or s.op.has_zero_gradient, margin=True)
@given(data=st.data())
def test_every_gradient_agrees(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: softplus has a gradient of 1 between 15 and 19."""
    op_under_test.check_law_on_cases(every_gradient_agrees, data, smooth=True, allow_long_axes=True)
