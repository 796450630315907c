"""Hypothesis strategies: cases of an op, read off one block of bytes.

Why is not every choice a draw of its own? Shapes, axes, keywords and values are read off a single
`st.binary`, each as a byte modulo the number of options, where a reader who knows Hypothesis expects
`sampled_from` and `hypothesis.extra.numpy`. An example costs 0.55 to 0.65 ms whatever it draws.
`mutually_broadcastable_shapes` makes that 1.5 ms, and each drawn float adds 0.07 ms; a block for up to 64
elements makes it 0.65 to 0.7 ms. `arrays` of 1,024 floats without a fill are Unsatisfiable, as they need 8
KiB of entropy; with the default fill, half of the arrays of 64 elements have at most 5 distinct values, and
16 to 19% are constant. In five of six examples Hypothesis copies one drawn choice to the place of another of
its kind, so that few calls would be new. In trials, an error planted in two-way broadcasting was found after
343 examples with shapes and arrays of `hypothesis.extra.numpy`, and after 10 with a table of shapes and a
block that picks values from a drawn alphabet; ties and zeros, which random numbers never give, are common
among such values. A block still shrinks: its bytes fall to 0, which is the simplest option everywhere and the
first letter of an alphabet. What comes from a drawn seed does not shrink. That is the values of all cases of
an example but the first: further cases cost little (499 checks a second with one in each example, 3,829 with
16), and `running.simplify` makes the values of a failure simple afterwards.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.filling import draw_byte_block, fill_case
from gradspec.properties.cases.kinks import move_away_from_kinks
from gradspec.properties.cases.sizes import MAX_ELEMENTS
from gradspec.properties.drawing.choices import DrawnChoices
from gradspec.properties.drawing.long_axes import decide_on_long_axis, draw_long_axis_case
from gradspec.reference.op import Op

Draw = Callable[[st.SearchStrategy[Any]], Any]

EXAMPLES_KEPT = 32
"""Of how many examples the cases are kept: every backend of a run draws the same ones, in turn."""

BYTES_PER_CALL = 10  # that the first choices of a call are read off; most calls make no more
BYTES_OF_VALUES = 32  # that pick the values of the first case; each is one more to shrink


@st.composite
def cases(
    draw: Draw,
    forms: Sequence[Op],
    dtypes: Sequence[str],
    cases_per_example: int,
    smooth: bool,
    max_elements: int = MAX_ELEMENTS,
    allow_long_axes: bool = False,
    prefer_many_axes: bool = False,
) -> list[Case]:
    """Draw several cases, each of a call of its own.

    Args:
        draw: Given by Hypothesis.
        forms: The op, or if it has several values the op with each of those picked that a case may be about.
        dtypes: The dtypes to choose from, the simplest first.
        cases_per_example: How many cases an example has. The simplest example, of zeros, has one.
        smooth: Whether all inputs keep away from kinks, by `MIN_KINK_DISTANCE`.
        max_elements: How many elements an array may have, unless it has a long axis.
        allow_long_axes: Whether now and then a case has one long axis. In 16-bit floats the op must add up
            elements, since there it shows in which dtype it adds; in others it must combine elements.
        prefer_many_axes: Whether a rank is the likelier the higher it is.
    """
    length = cases_per_example * BYTES_PER_CALL + BYTES_OF_VALUES
    block = draw(st.binary(min_size=length, max_size=length))
    seed = draw(st.integers(0, 2**16 - 1))
    # The simplest example, which Hypothesis tries first, is the same in every run: one case of it will do.
    if not any(block):
        cases_per_example = 1
    options = max_elements, allow_long_axes, prefer_many_axes
    example = _read_cases(block, seed, tuple(forms), tuple(dtypes), cases_per_example, smooth, *options)
    # A backend may write to an index that it is given.
    return [replace(case, keywords=deepcopy(case.keywords)) for case in example]


@lru_cache(maxsize=EXAMPLES_KEPT)
def _read_cases(
    block: bytes,
    seed: int,
    forms: Sequence[Op],
    dtypes: Sequence[str],
    cases_per_example: int,
    smooth: bool,
    max_elements: int,
    allow_long_axes: bool,
    prefer_many_axes: bool,
) -> list[Case]:
    """Return the cases that are read off a block of bytes, and a seed; the other arguments are of `cases`."""
    rng = np.random.default_rng(seed)
    example = []
    for i in range(cases_per_example):
        bytes_of_call = block[i * BYTES_PER_CALL : (i + 1) * BYTES_PER_CALL]
        choose = DrawnChoices(bytes_of_call, max_elements, rng, prefer_many_axes)
        dtype, op = choose.of(dtypes), choose.of(forms)
        if allow_long_axes and decide_on_long_axis(op, dtype, rng):
            case = draw_long_axis_case(op, dtype, rng)
        else:
            call = op.draw_call(choose)
            if op.arguments[-1] in op.defaults and choose.of([False, False, False, True]):
                call = replace(call, shapes=call.shapes[:-1])
            picks = (
                np.frombuffer(block[-BYTES_OF_VALUES:], np.uint8) if i == 0 else draw_byte_block(call, rng)
            )
            case = fill_case(op, call, dtype, picks)
        example.append(move_away_from_kinks(case, rng) if smooth and op.kinks else case)
    return example
