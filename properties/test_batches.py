"""Is a batch the same as its members one by one?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.observed.batches import find_batch_axes, may_be_batch
from gradspec.properties.laws.batches import a_batch_equals_its_members
from gradspec.properties.laws.second_order import make_moderate
from gradspec.properties.running.targets import OpUnderTest


@pytest.mark.property(when=lambda s: may_be_batch(s.op))
@given(data=st.data())
def test_a_batch_equals_its_members(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: log has one block of threads for up to 4096 elements."""
    for case in data.draw(op_under_test.cases(cases_per_example=2, max_elements=60)):
        if find_batch_axes(case) and case.cotangent.size:
            # Moderate numbers: the question is not of precision.
            op_under_test.check_law(a_batch_equals_its_members, case, adapt=make_moderate)
