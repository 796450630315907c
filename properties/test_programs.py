"""Are gradients right through whole programs: through fan-out, diamonds and inputs that are used twice?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.program_ops import classify_ops, list_program_ops
from gradspec.properties.drawing.programs import programs
from gradspec.properties.laws.programs import every_gradient_of_a_program_agrees
from gradspec.properties.running.targets import BackendUnderTest


@pytest.mark.property(when=lambda s: classify_ops(list_program_ops(s.backend)).of_several)
@given(data=st.data())
def test_every_gradient_of_a_program_agrees(
    backend_under_test: BackendUnderTest, data: st.DataObject
) -> None:
    """Its own fault: multiply by itself counts once."""
    for program in data.draw(programs(backend_under_test.backend, backend_under_test.dtypes)):
        backend_under_test.check_law(every_gradient_of_a_program_agrees, program)
