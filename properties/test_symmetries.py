"""Do ops keep the symmetries that they have: under shifts, another order, another scale?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.observed.symmetries import observe_symmetries
from gradspec.properties.laws.symmetries import symmetries_are_kept
from gradspec.properties.running.targets import OpUnderTest


@pytest.mark.property(when=lambda s: observe_symmetries(s.op))
@given(data=st.data())
def test_symmetries_are_kept(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: softmax rounds what is near 1024."""
    op_under_test.check_law_on_cases(symmetries_are_kept, data, smooth=True, cases_per_example=6)
