"""Do ops keep the symmetries that they have: under shifts, another order, another scale?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.symmetries import SYMMETRIES, symmetries_are_kept
from gradspec.properties.running.subject import Subject


@pytest.mark.property(when=lambda s: s.op.name in SYMMETRIES)
@given(data=st.data())
def test_symmetries_are_kept(subject: Subject, data: st.DataObject) -> None:
    """Its own fault: softmax rounds what is far from zero."""
    subject.obeys_on_cases(symmetries_are_kept, data, smooth=True, fills=3)
