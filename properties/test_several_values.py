"""Do the cotangents of all values count together, where an op has several values?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.several_values import all_cotangents_count_together
from gradspec.properties.running.targets import OpUnderTest


@pytest.mark.property(when=lambda s: s.op.picked is not None and s.op.differentiable)
@given(data=st.data())
def test_all_cotangents_count_together(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: unstack pays the first cotangent that is not zero alone."""
    op_under_test.check_law_on_cases(all_cotangents_count_together, data, smooth=True)
