"""Are gradients right through whole programs: through fan-out, diamonds and inputs that are used twice?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.cases.programs import MENU, filter_menu
from gradspec.properties.drawing.programs import PROGRAMS_PER_EXAMPLE, programs
from gradspec.properties.laws.programs import every_gradient_of_a_program_agrees
from gradspec.properties.running.targets import BackendUnderTest


@pytest.mark.property(when=lambda s: any(MENU[name].arity == 2 for name in filter_menu(s.backend)))
@given(data=st.data())
def test_every_gradient_of_a_program_agrees(
    backend_under_test: BackendUnderTest, data: st.DataObject
) -> None:
    """Its own fault: multiply by itself counts once."""
    for _ in range(PROGRAMS_PER_EXAMPLE):
        backend_under_test.check_law(
            every_gradient_of_a_program_agrees,
            data.draw(programs(backend_under_test.backend, backend_under_test.dtypes)),
        )
