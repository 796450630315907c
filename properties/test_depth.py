"""Is a program differentiated however long it is?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.depth import Chain, a_chain_of_any_length_is_differentiated
from gradspec.properties.running.targets import BackendUnderTest


@pytest.mark.property(when=lambda s: "negative" in s.backend.ops)
@given(data=st.data())
def test_a_chain_of_any_length_is_differentiated(
    backend_under_test: BackendUnderTest, data: st.DataObject
) -> None:
    """Its own fault: the pass back recurses."""
    chain = Chain(data.draw(st.sampled_from(list(backend_under_test.dtypes))))
    backend_under_test.check_law(a_chain_of_any_length_is_differentiated, chain)
