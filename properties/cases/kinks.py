"""Moving a case onto kinks, off them, and away from them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradspec.properties.cases.case import MIN_KINK_DISTANCE, Case, dtype_of, exact_dtype
from gradspec.reference.rule import Array

RANDOM_MOVES = 64  # random ways off the kinks, besides the regular ones
RANDOM_MOVES_OF_MANY = 12  # of more elements than are moved in turn

MAX_MOVED_IN_TURN = 256
"""Of more elements on kinks none moves by itself: there would be too many sides to differentiate on."""


def move_onto_kinks(case: Case, rng: np.random.Generator) -> Case:
    """Return the case with about half of its elements moved to the nearest kink, argument by argument."""
    inputs = list(case.inputs)
    for i in case.differentiable_inputs:
        distance = replace(case, inputs=tuple(inputs)).compute_kink_distances()[i]
        picked = (rng.random(distance.shape) < 0.5) & np.isfinite(distance)
        for sign in (1, -1):
            moved = inputs[i].astype(exact_dtype(case.dtype)) + np.where(picked, sign * distance, 0)
            candidate = moved.astype(dtype_of(case.dtype))
            candidates = (*inputs[:i], candidate, *inputs[i + 1 :])
            on_kink = replace(case, inputs=candidates).compute_kink_distances()[i] == 0
            inputs[i] = np.where(on_kink, candidate, inputs[i])
    return replace(case, inputs=tuple(inputs)).settle()


def iterate_kink_sides(case: Case) -> Iterator[Case]:
    """Yield the case in higher precision, moved off the kinks by less than a unit in the last place.

    Ties are broken in every yielded case, so that it has a derivative. First all elements move up and all
    move down, in either order. Then one argument as a whole moves further than the next, in every order of
    three, so that each of them is the middle one everywhere. Then each element in turn moves furthest up, and
    furthest down, with few or many others, unless more than `MAX_MOVED_IN_TURN` are on kinks. Then all move
    at random. The cases are made one at a time: each is as large as the first.
    """
    masks = [d == 0 for d in case.compute_kink_distances()]
    counts = [int(np.sum(mask)) for mask in masks]
    for order in _iterate_orders(counts):
        yield _move_by_ulps(case, masks, order / (sum(counts) + 1))


def _iterate_orders(counts: Sequence[int]) -> Iterator[Array]:
    """Yield by how many steps each element on a kink moves, given how many there are in each argument."""
    n = sum(counts)
    rng, ranks = np.random.default_rng(n), np.arange(n)
    yield from (ranks + 1, -1 - ranks, n - ranks, ranks - n)
    if len(counts) > 2:
        blocks = np.split(ranks, np.cumsum(counts)[:-1])
        yield from (1 + np.argsort(np.concatenate(some)) for some in itertools.permutations(blocks))
    is_many = n > MAX_MOVED_IN_TURN
    for k in range(0 if is_many else n):
        rank = (ranks + k) % n
        yield from (rank - n + 1.5, rank - 0.5, rank - n / 2 + 0.25)
    for _ in range(RANDOM_MOVES_OF_MANY if is_many else RANDOM_MOVES):
        yield rng.permutation(n) - rng.integers(0, n + 1) + 0.5


def _move_by_ulps(case: Case, masks: Sequence[Array], steps: Array) -> Case:
    """Return the case in higher precision, moved by `steps` units in the last place.

    Args:
        case: The case.
        masks: For each input, which elements are on kinks and move.
        steps: By how many units each of these moves, input after input.
    """
    wide = case.map_float_arrays(lambda x: x.astype(exact_dtype(case.dtype)))
    unit = max(float(np.finfo(exact_dtype(case.dtype)).eps) * 8 * len(steps), _epsilon(case.dtype))
    inputs, begin = [], 0
    for x, mask in zip(wide.inputs, masks, strict=True):
        end = begin + int(np.sum(mask))
        if end > begin:
            x = x.copy()
            x[mask] += (steps[begin:end] * unit * np.maximum(np.abs(x[mask]), 1)).astype(x.dtype)
        inputs.append(x)
        begin = end
    return replace(wide, inputs=tuple(inputs))


def _epsilon(dtype: str) -> float:
    """Return the spacing of the numbers of a dtype at 1."""
    one = dtype_of(dtype).type(1)
    return float(np.nextafter(one, dtype_of(dtype).type(2)) - one)


def move_away_from_kinks(case: Case, rng: np.random.Generator) -> Case:
    """Return the case with elements nearer to a kink than `MIN_KINK_DISTANCE` moved at random until none is.

    Raises:
        ValueError: If none of 50 attempts, with ever larger steps, gets there.
    """
    for attempt in range(50):
        near = [d < MIN_KINK_DISTANCE for d in case.compute_kink_distances()]
        if not any(map(np.any, near)):
            return case
        step = 0.1 * (1 + attempt)
        moved = [
            x.astype(np.float64) + np.where(n, rng.uniform(-step, step, x.shape), 0)
            for x, n in zip(case.inputs, near, strict=True)
        ]
        case = replace(case, inputs=tuple(np.asarray(m, dtype_of(case.dtype)) for m in moved)).settle()
    raise ValueError(f"no inputs {MIN_KINK_DISTANCE} away from the kinks of {case.op.name} found near {case}")
