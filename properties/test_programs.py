"""Are gradients right through whole programs: through fan-out, diamonds and inputs that are used twice?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.generating.compositions import PROGRAMS, programs
from gradspec.properties.laws.programs import MENU, every_gradient_of_a_program_agrees, menu_of
from gradspec.properties.running.subject import Engine


@pytest.mark.property(when=lambda s: any(MENU[name].takes == 2 for name in menu_of(s.backend)))
@given(data=st.data())
def test_every_gradient_of_a_program_agrees(engine: Engine, data: st.DataObject) -> None:
    """Its own fault: multiply by itself counts once."""
    for _ in range(PROGRAMS):
        engine.obeys(every_gradient_of_a_program_agrees, data.draw(programs(engine)))
