"""Hypothesis strategies: calls of an op, and cases filled with values.

Shapes, axes and keywords are read off a block of bytes, which shrinks. So are the values of the first case of an example;
those of the others come from a seed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.filling import fill_case
from gradspec.properties.cases.kinks import move_away_from_kinks
from gradspec.properties.cases.sizes import MAX_ELEMENTS
from gradspec.properties.drawing.choices import DrawnChoices, LongAxisChoices
from gradspec.reference.cases import Call, IntegersBelow
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

Draw = Callable[[st.SearchStrategy[Any]], Any]


LONG_AXIS_LENGTH_16_BIT = 4096  # of ones bfloat16 adds up 256, float16 2,048
LONG_AXIS_LENGTHS = (
    70,
    262,
    1030,
)  # in the other dtypes: past the blocks of 64, 256 and 1,024 that kernels work in
CASES_PER_LONG_CASE = 8, 10  # of so many cases that may be long one is, in 16 bits and in others
DTYPES_16_BIT = ("float16", "bfloat16")
LONG_AXIS_VALUES_16_BIT = (1.0, 0.9, 0.7, 0.3)
LONG_AXIS_VALUES = (1.0, 0.75, 0.5, 0.25)  # whose products add up exactly, in any order
MIN_VALUE_GAP = 1 / 16  # how far all numbers lie from each other where it matters which is the largest
SUMMING_OPS = {
    "sum",
    "mean",
    "var",
    "logsumexp",
    "softmax",
    "log_softmax",
    "layer_norm",
    "linear",
    "cross_entropy",
    "broadcast_to",
}

BYTES_PER_CALL = 10  # bytes that the first choices of a call are read off, and most calls have no more
BYTES_OF_VALUES = 32  # bytes that the values of the first case are picked by: each is one more to shrink


@st.composite
def cases(
    draw: Draw,
    op: Op,
    dtypes: Sequence[str],
    cases_per_example: int,
    smooth: bool,
    max_elements: int = MAX_ELEMENTS,
    allow_long_axes: bool = False,
    prefer_many_axes: bool = False,
) -> list[Case]:
    """Several cases, each of a call of its own.

    smooth: all inputs keep their distance from kinks. room: how many elements an array may have. long: whether ops that
    combine elements may meet one long axis now and then; in 16-bit floats those that add up, where it tells in what they add.
    many_axes: the higher a rank, the likelier.
    """
    length = cases_per_example * BYTES_PER_CALL + BYTES_OF_VALUES
    block = draw(st.binary(min_size=length, max_size=length))
    rng = np.random.default_rng(draw(st.integers(0, 2**16 - 1)))
    found = []
    if not any(block):
        cases_per_example = 1  # the simplest example, which Hypothesis tries first, is the same in every run
    for i in range(cases_per_example):
        choose = DrawnChoices(
            block[i * BYTES_PER_CALL : (i + 1) * BYTES_PER_CALL], max_elements, rng, prefer_many_axes
        )
        dtype = choose.of(dtypes)
        suited = is_summing_op(op) if dtype in DTYPES_16_BIT else not op.elementwise
        if allow_long_axes and suited and rng.integers(CASES_PER_LONG_CASE[dtype not in DTYPES_16_BIT]) == 0:
            case = _draw_long_axis_case(op, dtype, rng)
            found.append(move_away_from_kinks(case, rng) if smooth and op.kinks else case)
            continue
        call = op.cases(choose)
        if op.arguments[-1] in op.defaults and choose.of([False, False, False, True]):
            call = replace(call, shapes=call.shapes[:-1])
        picks = np.frombuffer(block[-BYTES_OF_VALUES:], np.uint8) if i == 0 else _draw_bytes(call, rng)
        case = fill_case(op, call, dtype, picks)
        found.append(move_away_from_kinks(case, rng) if smooth and op.kinks else case)
    return found


def is_summing_op(op: Op) -> bool:
    """Whether the op adds up elements, forwards or, where it broadcasts, backwards, and has no kinks in the way."""
    return not op.kinks and (op.name in SUMMING_OPS or (op.signature is not None and len(op.arguments) > 1))


def _draw_long_axis_case(op: Op, dtype: str, rng: np.random.Generator) -> Case:
    """A case of a call with a long axis. Its numbers have one sign, so that the sums outgrow what 16 bits add to them.

    In other dtypes it is for what goes wrong far along an axis, and each library adds in an order of its own: they are round,
    or, where the largest is sought, all different.
    """
    length = LONG_AXIS_LENGTH_16_BIT if dtype in DTYPES_16_BIT else int(rng.choice(LONG_AXIS_LENGTHS))
    call = op.cases(choose := LongAxisChoices(rng, length))
    for _ in range(3):
        if not choose.has_long_axis:
            call = op.cases(choose := LongAxisChoices(rng, length))
    case = fill_case(op, call, dtype, _draw_bytes(call, rng))
    if op.kinks or not op.differentiable:
        return case.map_float_arrays(
            lambda x: (MIN_VALUE_GAP * rng.permutation(x.size)).reshape(x.shape).astype(x.dtype)
        )
    letters = np.array(LONG_AXIS_VALUES_16_BIT if dtype in DTYPES_16_BIT else LONG_AXIS_VALUES).astype(
        dtype_of(dtype)
    )
    return case.map_float_arrays(lambda x: letters[rng.integers(len(letters), size=x.shape)])


def _draw_bytes(call: Call, rng: np.random.Generator) -> Array:
    """As many bytes at random as an array of the call has elements, and some more."""
    sizes = [math.prod(s.shape if isinstance(s, IntegersBelow) else s) for s in call.shapes]
    return rng.integers(0, 256, sum(sizes) + len(sizes) + 64, np.uint8)
