"""Does anything change that should not: inputs, cotangents, or what comes of the same call the next time?"""

from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.laws.purity import calls_leave_no_trace
from gradspec.properties.running.targets import OpUnderTest


@given(data=st.data())
def test_calls_leave_no_trace(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: the call writes to its first array."""
    op_under_test.check_law_on_cases(calls_leave_no_trace, data, smooth=True, cases_per_example=4)
