"""Calls with long axes stay within bounds, whatever a formula makes of its arrays on the way."""

from typing import Any

import numpy as np
import pytest

from gradspec.properties.cases.many_elements import LARGE_SIZE, large, left_behind_by_tiles, long_sums
from gradspec.properties.cases.memory import MAX_BYTES, fits_in_memory, shorten
from gradspec.properties.drawing.long_axes import draw_long_axis_case
from gradspec.reference import OPS, Op, op
from gradspec.reference.calls import Call, IntegerArrayBelow
from gradspec.reference.domains import Real, below

pytestmark = pytest.mark.usefixtures("restored_registry")

DTYPES = ("float32", "bfloat16", "float16")


def declare_attention(noted_sizes: list[int]) -> Op:
    def attention(x: Real, y: Real) -> Any:
        scores = x[..., :, None] * y[..., None, :]
        noted_sizes.append(np.size(scores))
        return np.sum(np.exp(-scores * scores) * y[..., None, :], axis=-1)

    return op("(*b,n),(*b,n)->(*b,n)")(attention)


def test_a_matrix_of_pairs_is_never_too_large_to_hold() -> None:
    sizes: list[int] = []
    declared = declare_attention(sizes)
    rng = np.random.default_rng(0)
    cases = [case for kind in (large, left_behind_by_tiles, long_sums) for case in kind(declared, DTYPES)]
    cases += [draw_long_axis_case(declared, "float16", rng) for _ in range(20)]
    assert max(sizes) * 8 <= MAX_BYTES
    assert max(case.inputs[0].shape[-1] for case in cases) >= 300
    assert max(max(case.inputs[0].shape, default=0) for case in cases) == LARGE_SIZE  # of a batch


def test_what_grows_like_its_arrays_may_be_long() -> None:
    for name in ("softmax", "cumulative_sum", "sort"):
        assert fits_in_memory(OPS[name], Call(((LARGE_SIZE,),), {"axis": 0}), LARGE_SIZE)
    assert fits_in_memory(OPS["matmul"], Call(((300, 300), (300, 300))), 300)
    assert not fits_in_memory(declare_attention([]), Call(((5000,), (5000,))), 5000)
    assert fits_in_memory(declare_attention([]), Call(((300,), (300,))), 300)


def test_a_shorter_call_keeps_what_goes_together() -> None:
    def pick(x: Real, index: below("n", negative=True)) -> Any:  # type: ignore[valid-type]
        return np.take(x, index, axis=-1)

    call = Call(((3, 600), IntegerArrayBelow((300,), 600, -600, -1000)), {"keepdims": True})
    shorter = Call(((3, 192), IntegerArrayBelow((96,), 192, -192, -1000)), {"keepdims": True})
    assert shorten(call, 300, 96) == shorter
    declared = op("(*b,2*n),(n)->(*b,n)")(pick)
    assert fits_in_memory(declared, Call(((3, 600), IntegerArrayBelow((300,), 300))), 300)
