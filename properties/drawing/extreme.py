"""Hypothesis strategies: cases of extreme numbers."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.extremes import find_maskable_inputs, make_extreme, pad_arrays
from gradspec.properties.cases.filling import draw_byte_block, fill_case
from gradspec.properties.drawing.choices import DrawnChoices
from gradspec.properties.drawing.strategies import Draw, cases
from gradspec.reference.op import Op

MAX_ELEMENTS_EXTREME = 12  # of an array: one element that overflows leaves little to say of the others
MAX_ELEMENTS_IN_ROWS = 24  # of an array of several rows, of which one may be extreme

LENGTHS_IN_ROWS = (2, 3, 4)
POWERS_OF_TWO = (2, 4)  # which blocks divide
PADDED_LENGTHS = (2, 9)  # a row of nine has whole tiles of four that are masked

CASES_PER_PADDED_ONE = 5  # one of so many cases is padded, where the op takes masks, and one is left as drawn
P_SEVERAL_ROWS = 0.7  # of a case, of an op that is not elementwise, that is drawn to have several rows
MAX_FURTHER_TRIES_FOR_ROWS = 3  # until a call has several elements both in its value and to each of them
P_FEW_AXES = 0.5  # of such a case, that it is the one of fewest axes of several, as matrices are
RANKS_IN_ROWS, RANKS_OF_FEW_AXES = (2, 2, 3, 1), (0, 2)
CALLS_OF_FEW_AXES = 3


class ChoicesOfRows(DrawnChoices):
    """The `Choices` of a call whose arrays have several rows of several elements."""

    def __init__(self, rng: np.random.Generator, lengths: Sequence[int], ranks: Sequence[int]) -> None:
        super().__init__(b"", MAX_ELEMENTS_IN_ROWS, rng)
        self.lengths, self.ranks = lengths, ranks

    def rank(self, low: int, high: int) -> int:
        return min(max(low, self.of(self.ranks)), high)

    def size(self, taken: int) -> int:
        lengths = [n for n in self.lengths if n * taken <= self.max_elements]
        self.axis_lengths.append(self.of(lengths) if lengths else 1)
        return self.axis_lengths[-1]


@st.composite
def extreme_cases(
    draw: Draw,
    op: Op,
    dtypes: Sequence[str],
    cases_per_example: int,
    max_elements: int = MAX_ELEMENTS_EXTREME,
) -> list[Case]:
    """Draw cases as `cases` does, with some or all of their numbers made extreme, each array in one way.

    Many of the cases of ops that combine elements have several rows, so that there is something to judge
    beside an extreme one.

    Args:
        draw: Given by Hypothesis.
        op: The op.
        dtypes: The dtypes to choose from.
        cases_per_example: How many cases an example has.
        max_elements: How many elements an array may have, where rows play no part.
    """
    example = draw(cases([op], dtypes, cases_per_example, False, max_elements))
    rng = np.random.default_rng(draw(st.integers(0, 2**16 - 1)))
    if not op.elementwise:
        example = [
            (_draw_case_of_few_axes if rng.random() < P_FEW_AXES else _draw_case_of_rows)(op, case.dtype, rng)
            if i % CASES_PER_PADDED_ONE and rng.random() < P_SEVERAL_ROWS
            else case
            for i, case in enumerate(example)
        ]
    extreme = [make_extreme(case, rng) for case in example]
    for i in range(1, len(example), CASES_PER_PADDED_ONE):
        if find_maskable_inputs(example[i]):
            padded = _draw_case_of_rows(op, example[i].dtype, rng, PADDED_LENGTHS)
            extreme[i] = pad_arrays(padded, rng)
    return [case.settle() for case in extreme]


def _draw_case_of_rows(
    op: Op, dtype: str, rng: np.random.Generator, lengths: Sequence[int] = LENGTHS_IN_ROWS
) -> Case:
    """Draw a case that has several elements both in its value and to each of them, if it is soon found."""
    case = _fill_call_of_rows(op, dtype, rng, lengths)
    for _ in range(MAX_FURTHER_TRIES_FOR_ROWS):
        n, n_inputs = case.cotangent.size, case.inputs[0].size
        # An element of the value may come from one alone, as in a sum over no axes.
        if 1 < n < n_inputs or (n > 1 and n_inputs >= 2 * min(lengths) and rng.random() < 1 / 2):
            break
        case = _fill_call_of_rows(op, dtype, rng, lengths)
    return case


def _draw_case_of_few_axes(op: Op, dtype: str, rng: np.random.Generator) -> Case:
    """Draw the case of fewest axes of several, if one has rows, with lengths that are powers of two."""
    drawn = [
        _fill_call_of_rows(op, dtype, rng, POWERS_OF_TWO, RANKS_OF_FEW_AXES) for _ in range(CALLS_OF_FEW_AXES)
    ]
    of_rows = [case for case in drawn if case.cotangent.size > 1 and case.cotangent.ndim > 1]
    return min(of_rows or drawn, key=lambda case: sum(x.ndim for x in case.inputs))


def _fill_call_of_rows(
    op: Op,
    dtype: str,
    rng: np.random.Generator,
    lengths: Sequence[int],
    ranks: Sequence[int] = RANKS_IN_ROWS,
) -> Case:
    call = op.draw_call(ChoicesOfRows(rng, lengths, ranks))
    return fill_case(op, call, dtype, draw_byte_block(call, rng))
