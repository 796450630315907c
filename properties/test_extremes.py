"""Do extreme numbers go where the spec says, and is no finite gradient lost to overflow on the way?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.generating.extreme import extreme_cases, extreme_rows
from gradspec.properties.laws.extremes import extremes_go_where_the_spec_says
from gradspec.properties.running.subject import Subject


@pytest.mark.property(when=lambda s: s.op.elementwise and len(s.op.arguments) < 3)
@given(data=st.data())
def test_extremes_of_elementwise_ops_go_where_the_spec_says(subject: Subject, data: st.DataObject) -> None:
    """Its own fault: divide squares the divisor."""
    for case in extreme_rows(subject.op, data.draw(st.sampled_from(list(subject.dtypes)))):
        subject.obeys(extremes_go_where_the_spec_says, case)


@pytest.mark.property(when=lambda s: not s.op.elementwise or len(s.op.arguments) > 2)
@given(data=st.data())
def test_extremes_go_where_the_spec_says(subject: Subject, data: st.DataObject) -> None:
    """Its own fault: the value is never infinite."""
    for case in data.draw(extreme_cases(subject.op, subject.dtypes, fills=3)):
        subject.obeys(extremes_go_where_the_spec_says, case)
