"""Hypothesis strategies: cases on kinks."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.kinks import move_onto_kinks
from gradspec.properties.drawing.strategies import Draw, cases
from gradspec.reference.op import Op

MAX_ELEMENTS_KINKED = 16  # of an array: each element on a kink asks for several runs of the spec
MAX_CALLS_TRIED = 4  # how often a call is drawn until one has a kink


@st.composite
def kinked_cases(
    draw: Draw, op: Op, dtypes: Sequence[str], cases_per_example: int, max_elements: int = MAX_ELEMENTS_KINKED
) -> list[Case]:
    """Draw cases as `cases` does, with about half of their elements moved to the nearest kink.

    Cases without a kink, such as a maximum of one element, are dropped, and drawn again if none is left.

    Args:
        draw: Given by Hypothesis.
        op: An op with kinks.
        dtypes: The dtypes to choose from.
        cases_per_example: How many cases an example has before some are dropped.
        max_elements: How many elements an array may have.
    """
    moved: list[Case] = []
    for _ in range(MAX_CALLS_TRIED):
        example = draw(cases([op], dtypes, cases_per_example, False, max_elements))
        rng = np.random.default_rng(draw(st.integers(0, 2**16 - 1)))
        moved = [move_onto_kinks(case, rng) for case in example]
        on_kinks = [case for case in moved if any(np.any(d == 0) for d in case.compute_kink_distances())]
        if on_kinks:
            return on_kinks
    return moved
