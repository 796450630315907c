"""Filling calls that are made on purpose: the same numbers in every run."""

from typing import Any

import numpy as np

from gradspec.properties.cases.case import MIN_KINK_DISTANCE, Case
from gradspec.properties.cases.filling import draw_byte_block, fill_case
from gradspec.properties.cases.kinks import move_away_from_kinks
from gradspec.reference.calls import Call
from gradspec.reference.op import Op


def fill_call(op: Op, call: Call, dtype: str, seed: int) -> Case:
    """Return the call filled with numbers that a seed picks."""
    return fill_case(op, call, dtype, draw_byte_block(call, np.random.default_rng(seed)))


def fill_call_apart(op: Op, call: Call, dtype: str, seed: int) -> Case:
    """Return the call filled with numbers that are away from kinks, all different where they are compared."""
    case, rng = fill_call(op, call, dtype, seed), np.random.default_rng(seed)
    if op.kinks is None:
        return case
    if op.elementwise:
        return move_away_from_kinks(case, rng) if op.differentiable else case
    return case.map_float_arrays(
        lambda x: (2 * MIN_KINK_DISTANCE * rng.permutation(x.size)).reshape(x.shape).astype(x.dtype)
    )


def list_keywords(op: Op) -> list[dict[str, Any]]:
    """Return keywords of an op with a signature, each value of each at least once."""
    n = max((len(options) for options in op.options.values()), default=1)
    return [{name: options[k % len(options)] for name, options in op.options.items()} for k in range(n)]
