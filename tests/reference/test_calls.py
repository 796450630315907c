"""The calls that an op draws: each of them runs, and together they reach all that they should."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from gradspec.properties.drawing.choices import DrawnChoices
from gradspec.reference import OPS, Op
from gradspec.reference.calls import (
    Call,
    IntegerArrayBelow,
    SeededChoices,
    SmallestChoices,
    draw_axes,
    draw_axis,
    draw_broadcastable_shape,
    draw_mutually_broadcastable_shapes,
    draw_permutation,
)
from gradspec.reference.op import fill_from_domain
from gradspec.reference.signatures import from_signature

SEEDS = range(300)
MAX_ELEMENTS = 16


def draw_seeded_calls(name: str, lengths: tuple[int, ...] = (0, 1, 2, 3)) -> list[Call]:
    return [OPS[name].draw_call(SeededChoices(seed, lengths)) for seed in SEEDS]


def shapes_of(call: Call) -> list[tuple[int, ...]]:
    return [s.shape if isinstance(s, IntegerArrayBelow) else s for s in call.shapes]


def fraction_true(conditions: Iterable[bool]) -> float:
    return float(np.mean(list(conditions)))


def broadcasts_both_ways(call: Call) -> bool:
    """Whether every argument is broadcast: none has the shape of the value."""
    full = np.broadcast_shapes(*shapes_of(call))
    return all(s != full for s in shapes_of(call))


def run_call(op: Op, call: Call) -> Any:
    arrays = [fill_from_domain(op.domain(i), shape) for i, shape in enumerate(call.shapes)]
    return op(arrays, **call.keywords) if op.variadic else op(*arrays, **call.keywords)


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_case_is_a_call_that_works(name: str) -> None:
    for seed, call in enumerate(draw_seeded_calls(name)):
        try:
            run_call(OPS[name], call)
        except Exception as error:
            error.add_note(f"seed {seed}: {call}")
            raise


@pytest.mark.parametrize("name", sorted(OPS))
def test_a_seed_gives_one_case(name: str) -> None:
    assert [repr(c) for c in draw_seeded_calls(name)] == [repr(c) for c in draw_seeded_calls(name)]


@pytest.mark.parametrize("name", sorted(OPS))
def test_the_smallest_case_has_at_most_one_element_to_an_array(name: str) -> None:
    assert all(np.prod(s) <= 1 for s in shapes_of(OPS[name].draw_call(SmallestChoices())))


@pytest.mark.parametrize("name", sorted(OPS))
def test_ranks_reach_from_the_lowest_to_four(name: str) -> None:
    ranks = {len(s) for call in draw_seeded_calls(name) for s in shapes_of(call)}
    lowest = {"concat": 1, "cross_entropy": 0, "softmax": 1, "log_softmax": 1}
    highest = {"stack": 3, "expand_dims": 3, "squeeze": 5}
    lowest |= {
        "cumulative_sum": 1,
        "einsum": 1,
        "index_add": 1,
        "take_along_axis": 1,
        "sort": 1,
        "unstack": 1,
    }
    lowest |= {"squeeze": 1, "linear": 1, "layer_norm": 1, "matmul": 1, "matrix_transpose": 2}
    assert min(ranks) == lowest.get(name, 0)
    assert max(ranks) == highest.get(name, 4)


@pytest.mark.parametrize("name", sorted(set(OPS) - {"cross_entropy"}))
def test_some_arrays_are_empty_and_most_are_not(name: str) -> None:
    empty = fraction_true(any(np.prod(s) == 0 for s in shapes_of(call)) for call in draw_seeded_calls(name))
    assert 0.01 < empty < 0.7, empty


@pytest.mark.parametrize("name", sorted(OPS))
def test_no_array_is_larger_than_there_is_room(name: str) -> None:
    """Nor if another is empty: an axis of length 0 leaves the others no more room than one of length 1."""
    rngs = (np.random.default_rng(seed) for seed in range(500))
    calls = (OPS[name].draw_call(DrawnChoices(b"", MAX_ELEMENTS, rng)) for rng in rngs)
    assert max(math.prod(shape) for call in calls for shape in shapes_of(call)) <= MAX_ELEMENTS


@pytest.mark.parametrize("name", sorted(name for name, op in OPS.items() if op.signature == "(),()->()"))
def test_broadcasting_both_ways_is_frequent(name: str) -> None:
    """With lengths 2 and 3, about one case in eight broadcasts each argument to the other."""
    assert fraction_true(map(broadcasts_both_ways, draw_seeded_calls(name, (2, 3)))) > 0.1


def test_three_arrays_of_several_axes_are_often_alike() -> None:
    """A kernel may be wrong only where nothing is broadcast."""
    several = [
        shapes_of(call) for call in draw_seeded_calls("clip", (2, 3)) if max(map(len, shapes_of(call))) > 2
    ]
    assert fraction_true(len(set(of_call)) == 1 for of_call in several) > 0.15


def test_most_elementwise_cases_broadcast_something() -> None:
    assert fraction_true(len(set(shapes_of(call))) > 1 for call in draw_seeded_calls("add", (2, 3))) > 0.4


def test_both_arguments_are_broadcast_alike() -> None:
    ranks = [tuple(map(len, shapes_of(call))) for call in draw_seeded_calls("add")]
    first, second = fraction_true(a < b for a, b in ranks), fraction_true(b < a for a, b in ranks)
    assert abs(first - second) < 0.1


def test_a_matmul_is_of_vectors_as_well_as_of_matrices() -> None:
    kinds = {tuple(min(len(s), 3) for s in shapes_of(call)) for call in draw_seeded_calls("matmul")}
    assert kinds == set(itertools.product((1, 2, 3), repeat=2))


def test_axes_are_none_negative_and_out_of_order() -> None:
    axes = [call.keywords["axis"] for call in draw_seeded_calls("sum")]
    tuples = [a for a in axes if isinstance(a, tuple)]
    assert None in axes
    assert any(isinstance(a, int) and a < 0 for a in axes)
    assert () in tuples
    assert any(list(a) != sorted(a) for a in tuples)
    assert any(min(a) < 0 <= max(a) for a in tuples if a)


def test_keys_are_of_every_kind() -> None:
    keys = [call.keywords["key"] for call in draw_seeded_calls("getitem")]
    masks = [key for key in keys if not isinstance(key, tuple)]
    tuples = [key for key in keys if isinstance(key, tuple)]
    parts = [part for key in tuples for part in key]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    assert masks
    assert all(np.asarray(mask).dtype == np.bool_ for mask in masks)
    assert {type(part) for part in parts} == {int, slice, np.ndarray, type(None), type(Ellipsis)}
    assert any((part.step or 1) < 0 for part in parts if isinstance(part, slice))
    assert {part.ndim for part in arrays} == {0, 1, 2}
    assert any(len(set(part.ravel().tolist())) < part.size for part in arrays)
    assert any(sum(isinstance(part, np.ndarray) for part in key) > 1 for key in tuples)


def test_permutations_are_signed() -> None:
    axes = [call.keywords["axes"] for call in draw_seeded_calls("permute_dims")]
    assert any(len(a) >= 3 and min(a) < 0 <= max(a) for a in axes)


@pytest.mark.parametrize(
    ("signature", "ranks"), [("()->()", (0, 4)), ("(n)->(n)", (1, 4)), ("(m,n)->(n,m)", (2, 4))]
)
def test_loop_dimensions_fill_up_to_rank_four(signature: str, ranks: tuple[int, int]) -> None:
    calls = [from_signature(signature)(SeededChoices(seed)) for seed in SEEDS]
    drawn_ranks = [len(s) for call in calls for s in shapes_of(call)]
    assert (min(drawn_ranks), max(drawn_ranks)) == ranks


def test_core_dimensions_of_one_name_are_equal() -> None:
    for seed in SEEDS:
        x, y = shapes_of(from_signature("(m,n),(n,p)->(m,p)")(SeededChoices(seed)))
        assert x[-1] == y[-2]


def test_what_is_drawn_from_a_shape_broadcasts_to_it() -> None:
    for seed in SEEDS:
        shape = draw_broadcastable_shape(SeededChoices(seed), (2, 3, 4))
        assert np.broadcast_shapes(shape, (2, 3, 4)) == (2, 3, 4)
        shapes = draw_mutually_broadcastable_shapes(SeededChoices(seed), (2, 3, 0), 3)
        assert np.broadcast_shapes(*shapes) == (2, 3, 0)


def test_axes_and_permutations_are_in_range() -> None:
    for seed in SEEDS:
        choose = SeededChoices(seed)
        assert -3 <= draw_axis(choose, 3) < 3
        assert sorted(draw_permutation(choose, 4)) == [0, 1, 2, 3]
        axes = draw_axes(choose, 3)
        assert axes is None or np.sum(np.ones((1, 1, 1)), axis=axes).ndim <= 3


def test_without_dimensions_there_is_no_axis_to_choose() -> None:
    assert {draw_axes(SeededChoices(seed), 0) for seed in SEEDS} == {None, ()}
