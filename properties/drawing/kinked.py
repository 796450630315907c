"""Cases on kinks, and the ways off them."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.kinks import move_onto_kinks
from gradspec.properties.drawing.strategies import Draw, cases
from gradspec.reference.op import Op

MAX_ELEMENTS_KINKED = (
    16  # elements of the largest array: each that lies on a kink asks for several runs of the spec
)
MAX_CALLS_TRIED = 4  # how often a call is drawn until one has a kink


@st.composite
def kinked_cases(
    draw: Draw, op: Op, dtypes: Sequence[str], cases_per_example: int, max_elements: int = MAX_ELEMENTS_KINKED
) -> list[Case]:
    """Cases of one call with elements on kinks; calls that can have none, such as a maximum of one, are drawn again.

    They are drawn as by `cases`, and about half of their elements moved to the nearest kink.
    """
    moved: list[Case] = []
    for _ in range(MAX_CALLS_TRIED):
        drawn = draw(cases(op, dtypes, cases_per_example, False, max_elements))
        rng = np.random.default_rng(draw(st.integers(0, 2**16 - 1)))
        moved = [move_onto_kinks(case, rng) for case in drawn]
        if found := [case for case in moved if any(np.any(d == 0) for d in case.compute_kink_distances())]:
            return found
    return moved
