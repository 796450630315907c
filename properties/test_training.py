"""Does a small network learn: does every parameter move, does the loss fall, and do both go where the spec goes?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.training import LAYERS, Lesson, a_network_learns_as_the_spec_does
from gradspec.properties.running.subject import Engine


@pytest.mark.property(when=lambda s: set(s.backend.ops) >= LAYERS and {"float64", "float32"} & set(s.dtypes))
@given(data=st.data())
def test_a_network_learns_as_the_spec_does(engine: Engine, data: st.DataObject) -> None:
    """Its own fault: linear has one workspace for a whole pass."""
    dtype = data.draw(st.sampled_from([d for d in engine.dtypes if d in ("float64", "float32")]))
    sizes = [data.draw(st.integers(low, 6)) for low in (2, 2, 3, 2)]  # layer_norm of two elements is constant
    engine.obeys(a_network_learns_as_the_spec_does, Lesson(data.draw(st.integers(0, 2**16)), dtype, *sizes))
