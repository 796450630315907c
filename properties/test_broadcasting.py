"""Is broadcasting the same as expanding the arguments first, and its pullback the sum over what was expanded?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.broadcasting import broadcasting_equals_explicit_expansion
from gradspec.properties.running.subject import Subject


@pytest.mark.property(when=lambda s: s.op.differentiable and s.op.core_ranks[1:])
@given(data=st.data())
def test_broadcasting_equals_explicit_expansion(subject: Subject, data: st.DataObject) -> None:
    subject.obeys_on_cases(broadcasting_equals_explicit_expansion, data, smooth=True, fills=3)
