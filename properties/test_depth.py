"""Is a program differentiated however long it is?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.depth import Chain, a_chain_of_any_length_is_differentiated
from gradspec.properties.running.subject import Engine


@pytest.mark.property(when=lambda s: "negative" in s.backend.ops)
@given(data=st.data())
def test_a_chain_of_any_length_is_differentiated(engine: Engine, data: st.DataObject) -> None:
    """Its own fault: the pass back recurses."""
    chain = Chain(data.draw(st.sampled_from(list(engine.dtypes))))
    engine.obeys(a_chain_of_any_length_is_differentiated, chain)
