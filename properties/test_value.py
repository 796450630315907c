"""Is the value right, in calls that leave keywords to their defaults?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.case import Case
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.targets import OpUnderTest


def cases_without_defaults(op_under_test: OpUnderTest) -> st.SearchStrategy[list[Case]]:
    """Cases whose calls leave out every keyword that has its default."""
    strategy = op_under_test.cases(allow_long_axes=True)
    return strategy.map(lambda cases: [case.without_defaults for case in cases])


@pytest.mark.property(margin=True)
@given(data=st.data())
def test_value_agrees(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: var corrects by 1 unless told otherwise."""
    for case in data.draw(cases_without_defaults(op_under_test)):
        op_under_test.check_law(value_agrees, case)
