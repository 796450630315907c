"""Does bad input raise?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.generating.spoilt import spoilt_cases
from gradspec.properties.laws.bad_input import what_the_spec_refuses_raises
from gradspec.properties.running.subject import Subject


@pytest.mark.property(
    when=lambda s: {"float64", "float32"} & set(s.dtypes) and (s.op.differentiable or len(s.op.arguments) > 1)
)
@given(data=st.data())
def test_what_the_spec_refuses_raises(subject: Subject, data: st.DataObject) -> None:
    """Its own fault: linear broadcasts its bias."""
    on_cpu = subject.backend.device == "cpu"
    for case in data.draw(spoilt_cases(subject.op, subject.dtypes, indices=on_cpu)):
        subject.obeys(what_the_spec_refuses_raises, case)
