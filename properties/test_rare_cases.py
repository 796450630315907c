"""Are value and gradients right in cases that are seldom drawn?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.rare import KEYWORDS_WITH_ENDS, keywords_at_their_ends
from gradspec.properties.cases.rare_kinds import RARE_KINDS, iterate_rare_cases
from gradspec.properties.laws.rare_cases import keywords_at_their_ends_agree, rare_cases_agree
from gradspec.properties.running.targets import OpUnderTest


@given(data=st.data())
def test_rare_cases_agree(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: var ignores a correction that is a numpy number."""
    kind = data.draw(st.sampled_from(RARE_KINDS))
    for case in iterate_rare_cases(op_under_test.forms, kind, op_under_test.dtypes):
        op_under_test.check_law(rare_cases_agree, case)


@pytest.mark.property(when=lambda s: KEYWORDS_WITH_ENDS & set(s.op.keywords))
@given(data=st.data())
def test_keywords_at_their_ends_agree(op_under_test: OpUnderTest, data: st.DataObject) -> None:
    """Its own fault: var has a finite gradient of too few numbers."""
    kind = data.draw(st.just(keywords_at_their_ends))
    for case in iterate_rare_cases(op_under_test.forms, kind, op_under_test.dtypes):
        op_under_test.check_law(keywords_at_their_ends_agree, case)
