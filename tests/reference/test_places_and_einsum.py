"""The ops that formulas are composed of, where no drawn case says it well."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gradspec.reference import Tensor, ops, vjp

X = np.arange(6.0).reshape(2, 3)


def compute_gradients(function: Any, *xs: Any) -> Any:
    value, pullback = vjp(function, *xs)
    return pullback(np.cos(np.arange(value.size)).reshape(value.shape))


def test_a_softmax_shifted_by_a_constant_has_the_gradient_of_softmax() -> None:
    def shifted(x: Any) -> Any:
        e = np.exp(x - ops.stop_gradient(np.max(x, axis=-1, keepdims=True)))
        return e / np.sum(e, axis=-1, keepdims=True)

    (got,), (expected,) = (compute_gradients(f, X) for f in (shifted, ops.softmax))
    assert_allclose(got, expected, rtol=1e-12)


def test_a_constant_has_memory_of_its_own_and_no_gradient() -> None:
    x = Tensor(X.copy(), requires_grad=True)
    y = ops.stop_gradient(x)
    assert not y.requires_grad
    assert not np.shares_memory(x.data, y.data)
    assert (
        compute_gradients(lambda x: x * ops.stop_gradient(x), X)[0].tolist()
        == (X * np.cos(np.arange(6)).reshape(2, 3)).tolist()
    )
    assert ops.stop_gradient(2.0) == 2


def test_sums_so_far() -> None:
    assert ops.cumulative_sum(X, axis=-1).tolist() == [[0, 1, 3], [3, 7, 12]]
    assert ops.cumulative_sum(X, axis=0, include_initial=True).tolist() == [[0] * 3, [0, 1, 2], [3, 5, 7]]
    assert ops.cumulative_sum(X[0]).tolist() == [0, 1, 3]
    for x, axis in ((X, None), (np.ones(()), None), (np.ones(()), 0), (X, 2)):
        with pytest.raises((ValueError, IndexError), match="axis"):
            ops.cumulative_sum(x, axis=axis)


def test_indices_are_copied() -> None:
    index = np.array([0, 0])
    for function in (
        lambda x: ops.take_along_axis(x, np.stack([index] * 2), axis=1),
        lambda x: ops.index_add(np.zeros((2, 3)), index, x[:, :2], axis=1),
    ):
        index[...] = 0
        value, pullback = vjp(function, X)
        g = np.ones(value.shape)
        before = pullback(g)[0]
        index[...] = 2
        assert np.array_equal(pullback(g)[0], before)


@pytest.mark.parametrize(
    ("x", "index", "source", "axis"),
    [
        (X, [0], np.ones((1, 1)), 0),
        (X, [0], np.ones(3), 0),
        (X, [[0]], np.ones((1, 1, 3)), 0),
        (X, [0, 1], np.ones((1, 3)), 0),
        (np.ones(()), [0], np.ones(1), 0),
        (X, [2], np.ones((1, 3)), 0),
    ],
)
def test_what_does_not_fit_is_not_added(x: Any, index: Any, source: Any, axis: int) -> None:
    with pytest.raises((ValueError, IndexError)):
        ops.index_add(x, np.array(index), source, axis=axis)


def test_padding() -> None:
    y = ops.pad(X, pad_width=((0, 1), (2, 0)), value=7.0)
    assert y.tolist() == [[7, 7, 0, 1, 2], [7, 7, 3, 4, 5], [7] * 5]
    assert ops.pad(np.float32(3) * np.ones((), np.float32), pad_width=()).dtype == np.float32
    for wrong in (((1, 1),), ((0, 0), (-1, 0))):
        with pytest.raises(ValueError, match="pad_width is"):
            ops.pad(X, pad_width=wrong)


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
        ("bhqd,bhkd->bhqk", [(2, 1, 3, 4), (2, 1, 2, 4)]),
        ("iij->j", [(3, 3, 2)]),
        ("iij,i->", [(3, 3, 2), (3,)]),
        ("iii->i", [(3, 3, 3)]),
        ("ij,kl->ijkl", [(2, 3), (1, 2)]),
        ("ba", [(2, 3)]),
        ("ij, jk", [(2, 1), (3, 4)]),
        ("...ij,j...->i...", [(5, 2, 3), (3, 5)]),
        ("a...b,...->b...", [(2, 1, 3, 4), (3,)]),
        ("i->", [(0,)]),
        (",i->i", [(), (2,)]),
    ],
)
def test_einsum_is_that_of_numpy_and_its_gradients_are_linear_in_each_array(
    subscripts: str, shapes: list[tuple[int, ...]]
) -> None:
    rng = np.random.default_rng(0)
    xs = [rng.normal(size=shape) for shape in shapes]
    value = ops.einsum(xs, subscripts=subscripts)
    assert_allclose(value, np.einsum(subscripts, *xs), rtol=1e-12)
    g = rng.normal(size=value.shape)
    for i, d in enumerate(vjp(lambda *xs: ops.einsum(xs, subscripts=subscripts), *xs)[1](g)):
        assert d.shape == xs[i].shape
        for k in range(xs[i].size):
            unit = np.zeros(xs[i].shape)
            unit.flat[k] = 1
            moved = np.einsum(subscripts, *(unit if j == i else x for j, x in enumerate(xs)))
            assert_allclose(d.flat[k], np.sum(g * moved), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij", [(2,)]),
        ("i", [(2, 3)]),
        ("ij,jk", [(2, 3)]),
        ("ij->k", [(2, 3)]),
        ("ij->ii", [(2, 3)]),
        ("i,i->", [(2,), (3,)]),
        ("ii", [(2, 3)]),
        ("...i->i", [(2, 3)]),
        ("i1", [(2, 3)]),
        ("nonsense", [(2, 3)]),
    ],
)
def test_einsum_refuses_what_has_no_meaning(subscripts: str, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="einsum: "):
        ops.einsum([np.ones(s) for s in shapes], subscripts=subscripts)
