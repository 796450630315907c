"""Is the spec's `Tensor` a small `torch.Tensor`?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.tensor_like_torch import (
    TENSOR_PROGRAMS,
    TensorProgramCase,
    program_text_observes_the_same,
)
from gradspec.properties.running.targets import BackendUnderTest


@pytest.mark.parametrize("program", TENSOR_PROGRAMS)
@pytest.mark.property(when=lambda s: s.backend.name == "torch")
@given(seed=st.integers(0, 2**16), shape=st.tuples(st.integers(1, 4), st.integers(2, 4)))
def test_program_text_observes_the_same(
    backend_under_test: BackendUnderTest, program: str, seed: int, shape: tuple[int, int]
) -> None:
    """Its own fault: subtracting in place ignores alpha."""
    backend_under_test.check_law(program_text_observes_the_same, TensorProgramCase(program, seed, shape))
