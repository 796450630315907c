"""Cases whose arrays lie in memory in other ways; and cases in which every layout meets every array."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.filling import draw_byte_block, fill_case
from gradspec.properties.cases.kinks import move_away_from_kinks
from gradspec.properties.cases.layouts import AXIS_ORDERS, list_layout_names
from gradspec.properties.cases.regular_choices import compute_value_shape, draw_largest_call, list_shapes
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

AXIS_LENGTHS_IN_ORDERS = (2, 3, 4, 5)  # no two alike, so that no order of axes looks like another
N_CASES_IN_EVERY_LAYOUT = 30  # as many as an array of four axes has layouts: 24 orders of axes, six others
LAYOUT_INDEX_STEPS = 1, 7, 11, 13
"""How far each array moves on in the list of its layouts, the cotangent least: coprime to 30, to meet all."""

LAYOUTS_THAT_ORDER_AXES = {"C", "fortran", "transposed"}


def lay_out_case(case: Case, layouts: Sequence[str]) -> Case:
    """Return the case in these layouts, that of the cotangent last.

    Where a layout is "expanded", the elements of the array are made equal along an axis.
    """
    for i, (x, layout) in enumerate(zip(case.inputs, layouts, strict=False)):
        if layout == "expanded":
            candidates = (case.with_input(i, repeated) for repeated in iterate_repeats(x))
            case = next((c for c in candidates if c.is_smooth or not case.op.differentiable), case)
    cotangent = case.cotangent
    if layouts[-1] == "expanded":
        cotangent = next(iterate_repeats(cotangent), cotangent)
    return replace(case, cotangent=cotangent, layouts=tuple(layouts))


def iterate_repeats(x: Array) -> Iterator[Array]:
    """Yield x with its first elements along an axis in place of the others; the longest axis first."""
    for axis in sorted(range(x.ndim), key=lambda i: -x.shape[i]):
        if x.size and x.shape[axis] > 1:
            yield np.array(np.broadcast_to(x.take([0], axis), x.shape))


def iterate_cases_in_every_layout(
    op: Op, dtypes: Sequence[str], part: int = 0, parts: int = 1
) -> Iterator[Case]:
    """Yield cases of as many axes as the op takes, until each array has met every layout.

    Inputs and cotangent meet them at different times, and each also meets C order beside others that are not.

    Args:
        op: The op.
        dtypes: The dtypes, taken in turn.
        part: Which of the parts, from 0 on.
        parts: Into how many parts the cases are split.
    """
    for k in range(part, N_CASES_IN_EVERY_LAYOUT, parts):
        # From round to round another dtype, so that it does not depend on the part.
        dtype = dtypes[(k + k // len(dtypes)) % len(dtypes)]
        rng = np.random.default_rng(k)
        call = draw_largest_call(op, k, AXIS_LENGTHS_IN_ORDERS)
        case = fill_case(op, call, dtype, draw_byte_block(call, rng))
        if op.kinks and op.differentiable:
            case = move_away_from_kinks(case, rng)
        yield lay_out_case(case, _plan_layouts(op)[k])


@cache
def _plan_layouts(op: Op) -> list[list[str]]:
    """Return the layouts of the arrays of each case, the cotangent's last.

    The arrays of each place and rank move on to other layouts from case to case, each in steps of its own.
    """
    turns: dict[tuple[int, int], int] = defaultdict(int)
    plan = []
    for k in range(N_CASES_IN_EVERY_LAYOUT):
        call = draw_largest_call(op, k, AXIS_LENGTHS_IN_ORDERS)
        ranks = [len(compute_value_shape(op, call)), *(len(shape) for shape in reversed(list_shapes(call)))]
        layouts = []
        for place, rank in enumerate(ranks):
            names = _list_all_layouts(rank)
            steps = turns[place, rank] * LAYOUT_INDEX_STEPS[place % len(LAYOUT_INDEX_STEPS)]
            layouts.append(names[(steps + place) % len(names)])
            turns[place, rank] += 1
        plan.append(layouts[::-1])
    return plan


def _list_all_layouts(rank: int) -> list[str]:
    others = [name for name in list_layout_names(rank) if name not in LAYOUTS_THAT_ORDER_AXES]
    return ["C", *others, *AXIS_ORDERS.get(rank, [])]
