"""Does bad input raise?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.drawing.bad_input import bad_input_cases
from gradspec.properties.laws.bad_input import what_the_spec_refuses_raises
from gradspec.properties.running.targets import OpUnderTest


@pytest.mark.property(
    when=lambda s: {"float64", "float32"} & set(s.dtypes) and (s.op.differentiable or len(s.op.arguments) > 1)
)
@given(data=st.data())
def test_what_the_spec_refuses_raises(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: linear broadcasts its bias."""
    is_on_cpu = op_under_test.backend.device == "cpu"
    for op in op_under_test.forms:
        strategy = bad_input_cases(op, op_under_test.dtypes, allow_bad_indices=is_on_cpu)
        for case in data.draw(strategy):
            op_under_test.check_law(what_the_spec_refuses_raises, case)
