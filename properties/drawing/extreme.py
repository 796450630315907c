"""Hypothesis strategies: cases of extreme numbers."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.extremes import make_extreme
from gradspec.properties.drawing.strategies import Draw, cases
from gradspec.reference.op import Op

MAX_ELEMENTS_EXTREME = 12  # of an array: one element that overflows leaves little to say of the others


@st.composite
def extreme_cases(
    draw: Draw,
    op: Op,
    dtypes: Sequence[str],
    cases_per_example: int,
    max_elements: int = MAX_ELEMENTS_EXTREME,
) -> list[Case]:
    """Draw cases as `cases` does, with some or all of their numbers made extreme, each array in one way.

    Args:
        draw: Given by Hypothesis.
        op: The op.
        dtypes: The dtypes to choose from.
        cases_per_example: How many cases an example has.
        max_elements: How many elements an array may have.
    """
    example = draw(cases(op, dtypes, cases_per_example, False, max_elements))
    rng = np.random.default_rng(draw(st.integers(0, 2**16 - 1)))
    return [make_extreme(case, rng) for case in example]
