"""Is a batch the same as its members one by one?"""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gradspec.properties.laws.batches import ALONG, LAYERS, a_batch_equals_its_members, batch_of
from gradspec.properties.laws.second_order import moderate
from gradspec.properties.running.subject import Subject


@pytest.mark.property(when=lambda s: s.op.signature or s.op.name in ALONG | LAYERS)
@given(data=st.data())
def test_a_batch_equals_its_members(subject: Subject, data: st.DataObject) -> None:
    """Its own fault: the gradient misses what one block of threads does not reach."""
    cases = data.draw(subject.cases(fills=1, room=60))
    assume(batch_of(cases[0]) and cases[0].cotangent.size)
    for case in cases:
        subject.obeys(a_batch_equals_its_members, case, kept=moderate)  # the question is not of precision
