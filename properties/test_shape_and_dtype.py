"""Do value and gradients have the shape and dtype that they must have?"""

from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.shape_and_dtype import shapes_and_dtypes_are_kept
from gradspec.properties.running.targets import OpUnderTest


@given(data=st.data())
def test_shapes_and_dtypes_are_kept(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: tanh of a number without axes is float64."""
    op_under_test.check_law_on_cases(shapes_and_dtypes_are_kept, data, cases_per_example=2)
