"""The law about programs catches faults of engines, which no law about a single op can see."""

from collections.abc import Callable

import pytest
from faults.engines import TINY, Node, by_recursion, engine, newest_first, second_branch_is_lost
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from planting import breaks, quiet

from gradspec.backends import Backend
from gradspec.properties.generating.compositions import PROGRAMS, programs
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.programs import every_gradient_of_a_program_agrees
from gradspec.properties.running.failure import Disagreement
from gradspec.properties.running.subject import Engine


def broken(backend: Backend, how: settings) -> Disagreement | None:
    """How the backend breaks the law, or None."""
    tried_on = Engine(backend=backend, dtypes=["float64", "float32"])

    @how
    @given(data=st.data())
    def tried(data: st.DataObject) -> None:
        for _ in range(PROGRAMS):
            tried_on.obeys(every_gradient_of_a_program_agrees, data.draw(programs(tried_on)))

    try:
        tried()
    except Disagreement as found:
        return found
    return None


@pytest.mark.parametrize("right", [newest_first, by_recursion])
def test_an_engine_of_another_kind_passes(right: Callable[[Node], None]) -> None:
    assert not broken(engine(right), quiet)


@pytest.mark.parametrize("fault", TINY)
def test_a_fault_of_the_engine_is_found(fault: Callable[[Node], None]) -> None:
    assert broken(engine(fault), settings(quiet, phases=[Phase.generate]))


def test_it_is_shown_on_the_smallest_program() -> None:
    found = broken(engine(second_branch_is_lost), quiet)
    assert found
    assert found.case.steps == (("add", (0, 0)),)  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", TINY)
@pytest.mark.parametrize("op", ["multiply", "add", "softmax"])
def test_no_law_about_a_single_op_sees_it(fault: Callable[[Node], None], op: str) -> None:
    assert not breaks(every_gradient_agrees, engine(fault, op), smooth=True)
