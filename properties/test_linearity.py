"""Is the pullback linear in the cotangent, and is zero exactly zero?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.linearity import pullback_is_linear_in_the_cotangent
from gradspec.properties.running.subject import Subject


@pytest.mark.property(when=lambda s: s.op.differentiable)
@given(data=st.data())
def test_pullback_is_linear_in_the_cotangent(subject: Subject, data: st.DataObject) -> None:
    """Its own fault: the gradient clips the cotangent."""
    subject.obeys_on_cases(pullback_is_linear_in_the_cotangent, data, fills=1)
