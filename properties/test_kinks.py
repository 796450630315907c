"""At kinks and ties, is the gradient a legal subgradient?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.drawing.kinked import kinked_cases
from gradspec.properties.laws.kinks import gradient_at_kinks_is_a_legal_subgradient
from gradspec.properties.running.targets import OpUnderTest


@pytest.mark.property(when=lambda s: s.op.differentiable and s.op.kinks)
@given(data=st.data())
def test_gradient_at_kinks_is_a_legal_subgradient(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: maximum pays nobody at a tie."""
    for op in op_under_test.forms:
        for case in data.draw(kinked_cases(op, op_under_test.dtypes, cases_per_example=4)):
            op_under_test.check_law(gradient_at_kinks_is_a_legal_subgradient, case)
