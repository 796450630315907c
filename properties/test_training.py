"""Does a small network learn: does every parameter move, does the loss fall, and both as in the spec?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.training import NETWORK_OPS, TrainingCase, a_network_learns_as_the_spec_does
from gradspec.properties.running.targets import BackendUnderTest


@pytest.mark.property(
    when=lambda s: set(s.backend.ops) >= NETWORK_OPS and {"float64", "float32"} & set(s.dtypes)
)
@given(data=st.data())
def test_a_network_learns_as_the_spec_does(backend_under_test: BackendUnderTest, data: st.DataObject) -> None:
    """Its own fault: linear keeps the weight that it first met with a batch."""
    dtype = data.draw(st.sampled_from([d for d in backend_under_test.dtypes if d in ("float64", "float32")]))
    # At least three hidden units: layer_norm of two elements is constant.
    sizes = [data.draw(st.integers(low, 6)) for low in (2, 2, 3, 2)]
    backend_under_test.check_law(
        a_network_learns_as_the_spec_does, TrainingCase(data.draw(st.integers(0, 2**16)), dtype, *sizes)
    )
