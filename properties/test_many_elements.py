"""Are value and gradients right in cases of many elements?"""

from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.rare_kinds import MANY_ELEMENTS_KINDS, iterate_rare_cases
from gradspec.properties.laws.many_elements import cases_of_many_elements_agree
from gradspec.properties.running.targets import OpUnderTest


@given(data=st.data())
def test_cases_of_many_elements_agree(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: exp has indices of 16 bits."""
    kind = data.draw(st.sampled_from(MANY_ELEMENTS_KINDS))
    for case in iterate_rare_cases(op_under_test.forms, kind, op_under_test.dtypes):
        op_under_test.check_law(cases_of_many_elements_agree, case)
