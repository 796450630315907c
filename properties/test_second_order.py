"""Are second derivatives right: can a pullback be differentiated, by the inputs and by its cotangent?"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.rare import of_every_size, one_uniform_array
from gradspec.properties.laws.second_order import (
    make_moderate,
    put_pairs_of_zeros,
    second_derivatives_agree,
    second_derivatives_of_every_size_agree,
)
from gradspec.properties.running.targets import OpUnderTest

EXPONENTS_OF_SECOND_DERIVATIVES = range(-6, 6)


@pytest.mark.property(when=lambda s: s.backend.nests and s.op.differentiable)
@given(data=st.data())
def test_second_derivatives_agree(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: prod of several zeros has a constant gradient."""
    cases = data.draw(op_under_test.cases(smooth=True, cases_per_example=2, max_elements=40))
    for k, case in enumerate(cases):
        if all(x.size for x in case.inputs):
            adapted = put_pairs_of_zeros(case, data.draw(st.integers(0, 3))) if k else case
            op_under_test.check_law(second_derivatives_agree, adapted, smooth=True, adapt=make_moderate)


@pytest.mark.property(when=lambda s: s.backend.nests and s.op.differentiable and s.op.elementwise)
@given(data=st.data())
def test_second_derivatives_of_every_size_agree(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: softplus bends up to size 3 alone."""
    exponents = data.draw(st.just(EXPONENTS_OF_SECOND_DERIVATIVES))
    dtypes = op_under_test.dtypes
    for op in op_under_test.forms:
        for case in itertools.chain(of_every_size(op, dtypes, exponents), one_uniform_array(op, dtypes)):
            op_under_test.check_law(second_derivatives_of_every_size_agree, case)
