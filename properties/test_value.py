"""Is the value right?"""

from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.subject import Subject


@given(data=st.data())
def test_value_agrees(subject: Subject, data: st.DataObject) -> None:
    """Its own fault: tanh is looked up where no gradient is asked for."""
    subject.obeys_on_cases(value_agrees, data, long=True)
