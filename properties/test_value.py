"""Is the value right, of calls that leave to their defaults what they can?"""

from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.case import Case
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.subject import Subject


def terse_cases(subject: Subject) -> st.SearchStrategy[list[Case]]:
    return subject.cases(long=True).map(lambda cases: [case.terse for case in cases])


@given(data=st.data())
def test_value_agrees(subject: Subject, data: st.DataObject) -> None:
    """Its own fault: exp is looked up where no gradient is asked for."""
    for case in data.draw(terse_cases(subject)):
        subject.obeys(value_agrees, case)
