"""Are gradients right through whole programs: through fan-out, diamonds and inputs that are used twice?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.program_ops import classify_ops, list_program_ops
from gradspec.properties.cases.programs import Program
from gradspec.properties.drawing.programs import programs
from gradspec.properties.laws.programs import every_gradient_of_a_program_agrees
from gradspec.properties.running.targets import BackendUnderTest


@pytest.mark.property(when=lambda s: classify_ops(list_program_ops(s.backend)).of_several, margin=True)
@given(data=st.data())
def test_every_gradient_of_a_program_agrees(
    backend_under_test: BackendUnderTest, data: st.DataObject
) -> None:
    """Its own fault: multiply by itself counts once."""
    drawn = data.draw(programs(backend_under_test.backend, backend_under_test.dtypes))
    failure = backend_under_test.failure
    # Once a program has failed, Hypothesis looks for a simpler one: the others of its example play no part.
    failed = failure.case if failure else None
    for program in drawn.build([failed.seed]) if isinstance(failed, Program) else drawn:
        backend_under_test.check_law_on_program(every_gradient_of_a_program_agrees, program)
