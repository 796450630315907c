"""Cases in which every order of the axes in memory meets every array: channels last among them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.filling import draw_byte_block, fill_case
from gradspec.properties.cases.kinks import move_away_from_kinks
from gradspec.properties.cases.layouts import AXIS_ORDERS
from gradspec.properties.cases.regular_choices import draw_largest_call
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

AXIS_LENGTHS_IN_ORDERS = (2, 3, 4, 5)  # no two alike, so that no order of axes looks like another
N_CASES_IN_ORDERS = 24  # as many as there are orders of four axes
ORDER_STEPS = 5, 7, 11, 13  # how far each array moves on: prime to 24, so that it meets all its orders


def iterate_cases_in_every_order(
    op: Op, dtypes: Sequence[str], part: int = 0, parts: int = 1
) -> Iterator[Case]:
    """Yield cases of as many axes as the op takes, until each array has met every order of its axes.

    Inputs and cotangent meet them at different times, and each also meets C order beside others that are not.

    Args:
        op: The op.
        dtypes: The dtypes, taken in turn.
        part: Which of the parts, from 0 on.
        parts: Into how many parts the cases are split.
    """
    for k in range(part, N_CASES_IN_ORDERS, parts):
        # From round to round another dtype, so that it does not depend on the part.
        dtype = dtypes[(k + k // len(dtypes)) % len(dtypes)]
        rng = np.random.default_rng(k)
        call = draw_largest_call(op, k, AXIS_LENGTHS_IN_ORDERS)
        case = fill_case(op, call, dtype, draw_byte_block(call, rng))
        if op.kinks and op.differentiable:
            case = move_away_from_kinks(case, rng)
        arrays = (*case.inputs, case.cotangent)
        yield replace(case, layouts=tuple(_pick_order(x, k, len(arrays) - i) for i, x in enumerate(arrays)))


def _pick_order(x: Array, k: int, i: int) -> str:
    """Return the k-th order of the axes of x, counted in steps of the i-th array, the cotangent's first."""
    names = ["C", *AXIS_ORDERS.get(x.ndim, [])]
    return names[(k * ORDER_STEPS[i % len(ORDER_STEPS)] + i - 1) % len(names)]
