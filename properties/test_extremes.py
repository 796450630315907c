"""Do extreme numbers go where the spec says, and is no finite gradient lost to overflow on the way?"""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.generating.extreme import extreme_cases, extreme_rows
from gradspec.properties.laws.extremes import extremes_go_where_the_spec_says
from gradspec.properties.running.subject import Subject, few

FILLS = 5  # cases per example
PARTS = 4  # of the rows are tried apart: the default profile tries them all in all dtypes, quick a few


@pytest.mark.property(when=lambda s: s.op.elementwise and len(s.op.arguments) < 3)
@given(data=st.data())
def test_extremes_of_elementwise_ops_go_where_the_spec_says(subject: Subject, data: st.DataObject) -> None:
    """Its own fault: divide squares the divisor."""
    dtype, part = data.draw(st.tuples(st.sampled_from(list(subject.dtypes)), st.sampled_from(range(PARTS))))
    for case in islice(extreme_rows(subject.op, dtype), part, None, PARTS):
        subject.obeys(extremes_go_where_the_spec_says, case)


@pytest.mark.property(when=lambda s: not s.op.elementwise or len(s.op.arguments) > 2)
@given(data=st.data())
def test_extremes_go_where_the_spec_says(subject: Subject, data: st.DataObject) -> None:
    """Its own fault: the value is never infinite."""
    for case in data.draw(extreme_cases(subject.op, subject.dtypes, few(FILLS))):
        subject.obeys(extremes_go_where_the_spec_says, case)
