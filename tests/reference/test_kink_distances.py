"""Distances to the nearest kink of an op: 0 on it, in the shape of each argument."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gradspec.reference import OPS
from gradspec.reference.calls import SeededChoices
from gradspec.reference.kink_distances import extreme_ties, points, ties
from gradspec.reference.op import fill_from_domain

INF = np.inf


def test_the_nearest_of_several_points_counts() -> None:
    (distances,) = points(0, 2)(np.array([-1.0, 0, 0.75, 1.5, 5]))
    assert_array_equal(distances, [1, 0, 0.75, 0.5, 3])


def test_points_take_keywords_and_any_rank() -> None:
    assert_array_equal(points(0)(np.array(-3.0), approximate="none")[0], 3)
    assert points(0)(np.zeros((2, 0)))[0].shape == (2, 0)


def test_a_tie_counts_for_both_arguments() -> None:
    x, y = np.array([1.0, 2, 3]), np.array([1.0, 5, 2])
    for distances in ties(x, y):
        assert_array_equal(distances, [0, 3, 1])


def test_a_broadcast_argument_is_as_near_as_the_nearest_element_it_meets() -> None:
    x, y = np.array([[1.0, 4], [2, 7]]), np.array([[3.0], [8]])
    dx, dy = ties(x, y)
    assert_array_equal(dx, [[2, 1], [6, 1]])
    assert_array_equal(dy, [[1], [1]])
    scalar, row = ties(np.array(5.0), np.array([4.0, 7]))
    assert_array_equal(scalar, 1)
    assert_array_equal(row, [1, 2])


def test_the_nearest_of_three_arguments_counts() -> None:
    x, low, high = ties(np.array([0.0, 4]), np.array([1.0, 1]), np.array(6.0))
    assert_array_equal(x, [1, 2])
    assert_array_equal(low, [1, 3])
    assert_array_equal(high, 2)


def test_nothing_is_near_nothing() -> None:
    x, y = ties(np.zeros((0, 1)), np.zeros((1, 3)))
    assert x.shape == (0, 1)
    assert_array_equal(y, [[INF] * 3])


@pytest.mark.parametrize("sign", [1, -1])
def test_an_extreme_has_a_kink_where_the_runner_up_catches_up(sign: int) -> None:
    x = sign * np.array([[1.0, 5, 2], [4, 4, 1]])
    (distances,) = extreme_ties(sign)(x, axis=1, keepdims=True)
    assert_array_equal(distances, [[4, 3, 3], [0, 0, 3]])


def test_axes_are_taken_together() -> None:
    x = np.array([[[1.0, 2], [3, 9]], [[4, 5], [6, 7]]])
    (distances,) = extreme_ties(1)(x, axis=(-1, 0))
    assert_array_equal(distances, [[[4, 3], [6, 2]], [[1, 1], [3, 2]]])


def test_one_element_has_no_rival() -> None:
    assert_array_equal(extreme_ties(1)(np.array([[3.0], [4]]), axis=1)[0], [[INF], [INF]])
    assert_array_equal(extreme_ties(1)(np.array(3.0), axis=())[0], INF)
    assert extreme_ties(1)(np.zeros((0, 3)), axis=1)[0].shape == (0, 3)


@pytest.mark.parametrize("sign", [1, -1])
def test_distances_to_ties_are_those_of_all_pairs(sign: int) -> None:
    """To the largest of the others, that is; whatever is below the largest must first reach it."""
    for seed in range(30):
        x = np.random.default_rng(seed).integers(0, 6, (3, 4)).astype(float)
        (distances,) = extreme_ties(sign)(x, axis=1)
        for place in np.ndindex(x.shape):
            others = np.delete(sign * x[place[0]], place[1])
            assert distances[place] == abs(np.max(others) - sign * x[place])


@pytest.mark.parametrize("distance", [lambda x: ties(x, x), extreme_ties(1), points(0, 1)])
def test_distances_of_many_ties_take_a_few_arrays_of_their_size(distance: Callable[..., Any]) -> None:
    x = np.ones(70_000)
    tracemalloc.start()
    distances = distance(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(np.all(d == 0) for d in distances)
    assert peak < 10 * x.nbytes


@pytest.mark.parametrize("name", sorted(name for name, op in OPS.items() if op.kinks))
def test_distances_have_the_shapes_of_the_arguments(name: str) -> None:
    op = OPS[name]
    assert op.kinks is not None
    for seed in range(50):
        call = op.draw_call(SeededChoices(seed))
        arrays = [fill_from_domain(op.domain(i), shape) for i, shape in enumerate(call.shapes)]
        distances = op.kinks(*arrays, **call.keywords)
        assert [np.shape(d) for d in distances] == [x.shape for x in arrays]
