"""Are second derivatives right: can a pullback be differentiated in its turn, by the inputs and by its cotangent?"""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gradspec.properties.laws.second_order import moderate, second_derivatives_agree
from gradspec.properties.running.subject import Subject


@pytest.mark.property(when=lambda s: s.backend.nests and s.op.differentiable)
@given(data=st.data())
def test_second_derivatives_agree(subject: Subject, data: st.DataObject) -> None:
    """Its own fault: tanh saves a constant."""
    for case in data.draw(subject.cases(smooth=True, fills=1, room=40)):
        assume(all(x.size for x in case.inputs))
        subject.obeys(second_derivatives_agree, case, smooth=True, kept=moderate)
