"""Which calls are timed, of ops of which nothing is known but their declaration."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradspec.reference import OPS, Op, op
from gradspec.reference.calls import Call, Choices
from gradspec.reference.domains import Real, below
from gradspec.timing import calls
from gradspec.timing.calls import ELEMENTS_BY_SIZE, SIZES, get_plain_shape, is_contraction, make_typical_call

pytestmark = pytest.mark.usefixtures("restored_registry")


def rms_norm() -> Op:
    @op("(*b,n),(n)->(*b,n)", eps=[1e-6])
    def rms_norm(x: Real, weight: Real, *, eps: float = 1e-6) -> Any:
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight

    return rms_norm


def embedding() -> Op:
    @op("(v,d),(*b)->(*b,d)")
    def embedding(weight: Real, index: below("v")) -> Any:  # type: ignore[valid-type]
        return weight[index]

    return embedding


def attention() -> Op:
    @op("(*b,t,d),(*b,s,d),(*b,s,e)->(*b,t,e)")
    def attention(q: Real, k: Real, v: Real) -> Any:
        weights = np.exp(np.einsum("...td,...sd->...ts", q, k) * q.shape[-1] ** -0.5)
        return weights / np.sum(weights, axis=-1, keepdims=True) @ v

    return attention


def conv2d() -> Op:
    def draw(choose: Choices) -> Call:
        n, c, o = (choose.size(1) or 1 for _ in range(3))
        h, w = (choose.size(n * c) or 1 for _ in range(2))
        k = choose.of([1, 3])
        return Call(((n, c, h, w), (o, c, min(k, h), min(k, w))))

    @op(draw)
    def conv2d(x: Real, weight: Real) -> Any:
        kh, kw = weight.shape[2:]
        h, w = x.shape[2] - kh + 1, x.shape[3] - kw + 1
        return sum(
            np.einsum("nchw,oc->nohw", x[:, :, i : i + h, j : j + w], weight[:, :, i, j])
            for i in range(kh)
            for j in range(kw)
        )

    return conv2d


def outer_of_matrices() -> Op:
    """Its value has as many elements as both arguments multiplied."""

    def draw(choose: Choices) -> Call:
        m, n, p, q = (choose.size(1) or 1 for _ in range(4))
        return Call(((m, n), (p, q)))

    @op(draw)
    def outer_of_matrices(x: Real, y: Real) -> Any:
        return x[:, :, None, None] * y[None, None, :, :]

    return outer_of_matrices


def pool() -> Op:
    @op("(n,c,h,w)->(n,c)")
    def pool(x: Real) -> Any:
        return np.mean(x, axis=(2, 3))

    return pool


def count_elements(declared: Op, call: Call) -> int:
    """Return how many elements the largest argument or the value has."""
    inputs = calls.make_arrays(declared, call, np.float32, seed=0)
    return max(np.size(declared.compute_value(*inputs, **call.keywords)), *map(np.size, inputs))


@pytest.mark.parametrize("declare", [rms_norm, embedding, outer_of_matrices, pool])
def test_three_sizes_of_an_op_of_ones_own_are_what_they_are_called(declare: Callable[[], Op]) -> None:
    declared = declare()
    counts = [count_elements(declared, make_typical_call(declared, size)) for size in SIZES]
    for size, count in zip(SIZES, counts, strict=True):
        assert ELEMENTS_BY_SIZE[size] / 2 <= count <= ELEMENTS_BY_SIZE[size] * calls.MAX_EXCESS


@pytest.mark.parametrize("declare", [attention, conv2d])
def test_sums_of_products_are_sized_by_their_work(declare: Callable[[], Op]) -> None:
    """At 16 MiB a convolution of equal lengths would take an hour."""
    declared = declare()
    assert is_contraction(declared)
    for size, side in calls.MATRIX_SIDE_BY_SIZE.items():
        shapes = [get_plain_shape(s) for s in make_typical_call(declared, size).shapes]
        lengths = {*shapes[0], *shapes[1][:2]}
        axes = 5 if declared.name == "conv2d" else 3
        assert lengths == {2} or max(lengths) ** axes <= side**3
        longer, elements = min(lengths) + 1, ELEMENTS_BY_SIZE[size]
        assert size == "overhead" or longer**axes > side**3 or longer ** len(shapes[0]) > elements


def test_a_value_that_would_not_fit_is_never_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """To predict how large a value is, no array of more than 4 x 4 x 4 x 4 elements is made."""
    made: list[int] = []
    make_random_array = calls.make_random_array

    def note_size(rng: Any, domain: Any, shape: Any, dtype: Any) -> Any:
        made.append(math.prod(get_plain_shape(shape)))
        return make_random_array(rng, domain, shape, dtype)

    monkeypatch.setattr(calls, "make_random_array", note_size)
    for declare in (rms_norm, embedding, attention, outer_of_matrices, pool):
        make_typical_call(declare(), "memory")
    assert made
    assert max(made) <= 4**4


def test_an_op_of_ones_own_is_not_taken_for_one_of_the_spec() -> None:
    """The typical call of the spec's pad is written by hand, and has keywords that another may not take."""
    assert make_typical_call(OPS["pad"], "cache").keywords

    @op("(n)->(n)")
    def pad(x: Real) -> Any:
        return np.concatenate([x[..., 1:], x[..., :1]], axis=-1)

    assert make_typical_call(pad, "cache").keywords == {}
