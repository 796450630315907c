"""Rare cases: what drawing would seldom or never make, a few of each kind for each op, always the same.

Where an op cannot have a case of a kind, the kind has none for it. What a kind concerns is told from the
facts of the op and the names of its keywords, so that an op which somebody adds has its share.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.properties.cases.case import MIN_KINK_DISTANCE, Case, dtype_of
from gradspec.properties.cases.filling import draw_byte_block, fill_case, fill_cotangent
from gradspec.properties.cases.kinks import move_away_from_kinks
from gradspec.properties.cases.regular_choices import (
    count_elements,
    draw_largest_call,
    list_calls_with_long_axis,
    list_shapes,
    list_square_calls,
)
from gradspec.reference.calls import Call, SeededChoices
from gradspec.reference.domains import Interval
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

LARGE_SIZE = 66_049
"""Of the longest axis: past 65,535, where an index of 16 bits and a grid of blocks end, and past any tile.

It is 257 squared, so that every tile of a power of two leaves one element behind; float16 cannot hold it.
"""

LARGE_SIDE = 300
"""Of a square with more than 65,535 elements: past any tile, with more than one element left behind."""

MAX_LARGE_ELEMENTS = 3 * LARGE_SIZE  # of all arrays of a large case of an op that combines elements

PERIOD = 61
"""After how many elements large arrays repeat: a prime, so that no wrong index hits an equal element."""

MAX_RANK = 4  # of arrays that broadcast
CASES_OF_AXES_ALIKE = 16  # of an op that combines elements, of any rank

TILE_REMAINDER_LENGTHS = (192, 320, LARGE_SIDE)
"""None is a multiple of 128, and the first two are multiples of 64: half a tile is left behind, or less."""

ROWS_OF_SUMS = {"bfloat16": 2000, "float16": 4096}  # sums of ones stop growing at 256 and at 2,048
ROWS_OF_OTHER_SUMS = 2100  # in other dtypes: past any block of threads
TIES_BY_DTYPE = {"bfloat16": 300, "float16": LARGE_SIZE}  # more than the dtype can count

SCALES_FAR_FROM_ZERO = (1e2, 1e3, 1e4, 1e6, 1e8, 1e10)
"""How far numbers lie from zero in units of their differences, where the dtype can tell them apart."""

SCALES_FAR_FROM_ZERO_16_BIT = {"float16": (30.0,), "bfloat16": (6.0,)}
STEPS_FAR_FROM_ZERO = np.random.default_rng(0).permutation(np.arange(-30, 31)) / 16
"""How these numbers differ: in as many ways as there are elements, so that roundings do not add up."""


EXPONENTS_OF_SIZES = range(-20, 41)  # of elementwise ops: no power of two between is left out
FAR_EXPONENTS_PER_SIDE = 14  # beyond these, up to where the square of a number is just finite
MAX_EXPONENT_FLOAT16 = 14

EPS_AT_THE_ENDS = (1e-12, 1.0)

LETTERS_OF_SUMS = (1, 0.5, 0.625, 1.25)
"""What long sums are made of: of one sign, and none is the mean of some others."""

LETTERS_OF_LARGE_SUMS = (1, 0.5, 1, 2)
"""Products of them add up exactly, in any order, and the product of all four is 1."""


def far_from_zero(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases whose numbers lie far from zero beside how far they differ, or nearly cancel."""
    if op.elementwise or not op.differentiable or op.domain(0) != Interval():
        return
    for dtype, k, scale in [(d, k, scale) for d in dtypes for k, scale in enumerate(_list_scales(d))]:
        call = draw_largest_call(op, k, (3, 8, 2, 5))
        case = _fill(op, call, dtype, k)
        steps = np.resize(STEPS_FAR_FROM_ZERO, case.inputs[0].size).reshape(case.inputs[0].shape)
        yield case.with_input(0, (scale + steps).astype(dtype_of(dtype)))
        signs = np.where(np.arange(steps.size).reshape(steps.shape) % 2, -1, 1)
        yield case.with_input(0, (signs * scale + steps).astype(dtype_of(dtype)))


def _list_scales(dtype: str) -> Sequence[float]:
    """Return the scales at which a dtype tells numbers apart that differ by 1/4."""
    if dtype in SCALES_FAR_FROM_ZERO_16_BIT:
        return SCALES_FAR_FROM_ZERO_16_BIT[dtype]
    eps = float(ml_dtypes.finfo(dtype_of(dtype)).eps)
    return [scale for scale in SCALES_FAR_FROM_ZERO if scale * eps < 1 / 8]


def of_every_size(
    op: Op, dtypes: Sequence[str], exponents: Sequence[int] = EXPONENTS_OF_SIZES
) -> Iterator[Case]:
    """Yield cases of an elementwise op with numbers of every size and sign, each beside another size.

    What lies further out is in a case of its own, since it may overflow on its way and tell nothing then.

    Args:
        op: The op; if it is not elementwise, or takes other arrays than floats, there is no case.
        dtypes: The dtypes.
        exponents: The exponents of the sizes, as powers of two; float16 gets no more than it can hold. In
            the case of what lies further out they go on in larger steps, as long as squares are finite.
    """
    domains = [domain for domain in op.domains if isinstance(domain, Interval)]
    if not op.elementwise or len(domains) < len(op.domains):
        return
    for dtype in dtypes:
        top = MAX_EXPONENT_FLOAT16 if dtype == "float16" else max(exponents)
        for several in [k for k in exponents if -top <= k <= top], _list_far_exponents(dtype, exponents):
            letters = np.array([s * 1.375 * 2.0**k for k in several for s in (1, -1)])
            rows = []
            for i, domain in enumerate(domains):
                inside = np.array([x for x in letters * (1 + i / 8) if x in domain])
                if inside.size:
                    rows.append(np.resize(np.roll(inside, 29 * i), len(letters)).astype(dtype_of(dtype)))
            cotangent = fill_cotangent(dtype, letters.shape, np.arange(len(letters), dtype=np.uint8))
            for keywords in _list_keywords(op) if len(rows) == len(domains) else ():
                yield Case(op, dtype, tuple(rows), keywords, cotangent)


def _list_far_exponents(dtype: str, exponents: Sequence[int]) -> list[int]:
    """Return exponents of numbers further out than these, on both sides, whose squares are finite.

    In float16, where hardly any are, there are none.
    """
    if dtype == "float16":
        return []
    top = ml_dtypes.finfo(dtype_of(dtype)).maxexp // 2 - 2
    above = range(max(exponents), top + 1, max((top - max(exponents)) // FAR_EXPONENTS_PER_SIDE, 1))
    below = range(min(exponents), -top - 1, -max((top + min(exponents)) // FAR_EXPONENTS_PER_SIDE, 1))
    return [*below[:0:-1], *above[1:]]


def _list_keywords(op: Op) -> list[dict[str, Any]]:
    """Return keywords of an op with a signature, each value of each at least once."""
    n = max((len(options) for options in op.options.values()), default=1)
    return [{name: options[k % len(options)] for name, options in op.options.items()} for k in range(n)]


def keywords_at_their_ends(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases with a correction up to the number of elements and beyond, an eps tiny and large."""
    for k, dtype in enumerate([*dtypes, *dtypes]):
        call = draw_largest_call(op, k, (2, 3))
        ends: list[dict[str, Any]] = []
        if "correction" in call.keywords:
            n = _count_reduced(list_shapes(call)[0], call.keywords.get("axis"))
            ends += [{"correction": correction} for correction in (n - 1, n - 0.5, n, n + 1)]
        if "eps" in call.keywords:
            ends.append({"eps": EPS_AT_THE_ENDS[k % len(EPS_AT_THE_ENDS)]})
        for keywords in ends:
            yield _fill(op, replace(call, keywords={**call.keywords, **keywords}), dtype, k)


def _count_reduced(shape: tuple[int, ...], axis: Any) -> int:
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return math.prod(shape[a] for a in axes)


def metadata_as_numpy_numbers(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases with NumPy's numbers, alone, in tuples and in slices, as an argmax or a shape has them."""
    for k, dtype in zip(range(6 if op.keywords else 0), itertools.cycle(dtypes)):
        call = op.draw_call(SeededChoices(k, (1, 2, 3)))
        keywords = {name: _to_numpy_numbers(value) for name, value in call.keywords.items()}
        if repr(keywords) != repr(call.keywords):
            yield _fill(op, replace(call, keywords=keywords), dtype, k)


def _to_numpy_numbers(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_to_numpy_numbers, value))
    if isinstance(value, slice):
        return slice(*map(_to_numpy_numbers, (value.start, value.stop, value.step)))
    if isinstance(value, bool):
        return value
    return (
        np.int64(value)
        if isinstance(value, int)
        else np.float64(value)
        if isinstance(value, float)
        else value
    )


def left_behind_by_tiles(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases with an axis, in each place in turn, of a length that leaves elements behind.

    The first place and the last are tried with each of the lengths, those between with one of them.
    """
    turns = itertools.count()
    for k, length in enumerate(TILE_REMAINDER_LENGTHS):
        calls = list_calls_with_long_axis(op, length, by_rank=True)
        between = () if op.elementwise else calls[1:-1][k :: len(TILE_REMAINDER_LENGTHS)]
        for call in (*_pick_places(calls, 2), *between):
            yield _fill_apart(op, call, dtypes[next(turns) % len(dtypes)], length)


def large(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases of more than 65,535 elements, along one axis and along two.

    Those of elementwise ops are of one axis, in each dtype, and their arrays repeat.
    """
    if op.elementwise:
        for dtype in dtypes:
            call = Call(((PERIOD,),) * len(op.arguments), _list_keywords(op)[0])
            small = _fill_apart(op, call, dtype, 0)
            repeated = tuple(np.resize(x, LARGE_SIZE) for x in small.inputs)
            yield replace(small, inputs=repeated, cotangent=np.resize(small.cotangent, LARGE_SIZE))
        return
    dtype = "float32" if "float32" in dtypes else dtypes[-1]
    calls = [c for c in list_calls_with_long_axis(op, LARGE_SIZE) if count_elements(c) <= MAX_LARGE_ELEMENTS]
    square_calls = list_square_calls(op, LARGE_SIDE, MAX_LARGE_ELEMENTS)
    for call in [*_pick_places(calls, 2), *_pick_places(square_calls, 3)]:
        case = _fill_apart(op, call, dtype, 0)
        letters = np.array(LETTERS_OF_LARGE_SUMS).astype(dtype_of(dtype))
        yield case if op.kinks or not op.differentiable else _fill_with_letters(case, letters)
    if "key" in op.keywords:  # the drawn ones pick few elements
        x, places = np.resize(np.arange(PERIOD), LARGE_SIZE).astype(dtype_of(dtype)), np.arange(LARGE_SIZE)
        for key in (slice(None, None, -1), np.roll(places, 1)):
            yield Case(op, dtype, (x,), {"key": (key,)}, np.roll(x, 7))


def long_sums(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases in 16 bits in which many numbers of one sign are added up, forwards or backwards.

    In other dtypes only numbers that add up exactly are, of an index that recurs: how far the order of a sum
    may move it there, nothing tells.
    """
    if not op.differentiable or op.kinks or (op.elementwise and len(op.arguments) < 2):
        return
    for dtype in dtypes:
        letters = np.array(LETTERS_OF_SUMS).astype(dtype_of(dtype))
        if dtype in ROWS_OF_SUMS:
            for call in _pick_places(list_calls_with_long_axis(op, ROWS_OF_SUMS[dtype]), 4):
                case = _fill_with_letters(_fill(op, call, dtype, 0), letters)
                yield case
                yield _repeat_along_long_axes(case, letters)
        if "key" in op.keywords:
            n = ROWS_OF_SUMS.get(dtype, ROWS_OF_OTHER_SUMS)
            places = np.arange(n) // (n - 1)
            yield Case(op, dtype, (letters[:3],), {"key": (places,)}, np.resize(letters, places.shape))


def _fill_with_letters(case: Case, letters: Array) -> Case:
    """Return the case with its floats replaced by these numbers, in rounds: all of them, each time shuffled.

    The longest axis of an array is full of rounds, so that a product along it is never far from 1 if that of
    all numbers is 1.
    """
    rng = np.random.default_rng(0)

    def replace_by_letters(x: Array) -> Array:
        axis = int(np.argmax(x.shape)) if x.ndim else 0
        shape = np.moveaxis(np.atleast_1d(x), axis, -1).shape
        rounds = np.tile(letters, (*shape[:-1], -(-shape[-1] // len(letters)), 1))
        rows = rng.permuted(rounds, axis=-1).reshape(*shape[:-1], -1)[..., : shape[-1]]
        return np.ascontiguousarray(np.moveaxis(rows, -1, axis)).reshape(x.shape)

    return case.map_float_arrays(replace_by_letters)


def _repeat_along_long_axes(case: Case, letters: Array) -> Case:
    """Return the case with the same numbers all along its long axis: what is subtracted leaves one sign.

    So do all rows of a gradient with respect to them, of which none then nearly vanishes by chance.
    """
    turns = itertools.count()

    def repeat(x: Array) -> Array:
        row = x[tuple(slice(0, 1) if n == ROWS_OF_SUMS[case.dtype] else slice(None) for n in x.shape)]
        return np.array(np.broadcast_to(np.resize(np.roll(letters, next(turns)), row.shape), x.shape))

    return case.map_float_arrays(repeat)


def many_ties(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases of more equal numbers than 16 bits can count, as floats or as integers."""
    if op.elementwise or not (op.kinks and op.differentiable):
        return
    counts = [(dtype, TIES_BY_DTYPE[dtype]) for dtype in dtypes if dtype in TIES_BY_DTYPE]
    if "float16" not in dtypes:
        counts.append((dtypes[-1], LARGE_SIZE))
    for dtype, count in counts:
        for call in list_calls_with_long_axis(op, count)[:1]:
            yield _fill(op, call, dtype, 0).map_float_arrays(np.ones_like)


def axes_all_alike(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases all of whose axes are equally long: what is transposed there keeps its shape.

    In those of an elementwise op of several arrays one array has fewer axes, or one of length 1: along which
    axes its gradient is summed, its shape does not tell.
    """
    if op.elementwise:
        for k, call in enumerate(_iterate_broadcasts(op)):
            yield _fill_apart(op, call, dtypes[k % len(dtypes)], k)
        return
    for k in range(CASES_OF_AXES_ALIKE):
        yield _fill_apart(op, op.draw_call(SeededChoices(k, (3,))), dtypes[k % len(dtypes)], k)


def _iterate_broadcasts(op: Op) -> Iterator[Call]:
    n = len(op.arguments)
    for rank, i in itertools.product(range(1, MAX_RANK + 1), range(n) if n > 1 else ()):
        for shape in _list_narrower_shapes((2,) * rank):
            shapes = [(2,) * rank] * n
            shapes[i] = shape
            yield Call(tuple(shapes), _list_keywords(op)[0])


def _list_narrower_shapes(full: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return shapes that broadcast to this one: with fewer axes, and with length 1 along each axis."""
    fewer = [full[k:] for k in range(1, len(full) + 1)]
    return fewer + [(*full[:k], 1, *full[k + 1 :]) for k in range(len(full))]


def unusual_cotangents(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases of a cotangent that is uniform, of one sign, mostly zero, of pairs, or zero in places."""
    if not op.differentiable:
        return
    call = draw_largest_call(op, 1, (2, 3))
    changes: tuple[Callable[[Array, Array], Array], ...] = (
        lambda g, places: np.ones_like(g),
        lambda g, places: -np.abs(g),
        lambda g, places: np.where(places == g.size // 2, g, 0),
        lambda g, places: np.where(places % 3, g, 0),
        lambda g, places: g[places // 2 * 2],
    )
    for change, dtype in zip(changes, itertools.cycle(dtypes)):
        case = _fill_apart(op, call, dtype, 1)
        g = case.cotangent.reshape(-1)
        changed = change(g, np.arange(g.size)).astype(g.dtype)
        yield replace(case, cotangent=changed.reshape(case.cotangent.shape))


RareKind = Callable[[Op, Sequence[str]], Iterator[Case]]
"""Yields the rare cases of an op of one kind, in every dtype or in each of them in turn."""

RARE_KINDS: tuple[RareKind, ...] = (
    unusual_cotangents,
    far_from_zero,
    of_every_size,
    metadata_as_numpy_numbers,
    left_behind_by_tiles,
    large,
    long_sums,
    many_ties,
    axes_all_alike,
)


def iterate_rare_cases(op: Op, kind: RareKind, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield the rare cases of a kind, without those that are near a kink by chance."""
    for case in kind(op, dtypes):
        may_be_near_kinks = kind in (many_ties, of_every_size) or not (op.kinks and op.differentiable)
        if may_be_near_kinks or case.is_smooth:
            yield case


def _pick_places(calls: Sequence[Call], count: int) -> list[Call]:
    """Return some of the calls, the first and the last among them: a long axis in few arrays and in many."""
    places = np.unique(np.linspace(0, len(calls) - 1, count).round()) if calls else ()
    return [calls[int(k)] for k in places]


def _fill(op: Op, call: Call, dtype: str, seed: int) -> Case:
    return fill_case(op, call, dtype, draw_byte_block(call, np.random.default_rng(seed)))


def _fill_apart(op: Op, call: Call, dtype: str, seed: int) -> Case:
    """Return the call filled with numbers that are away from kinks, all different where they are compared."""
    case, rng = _fill(op, call, dtype, seed), np.random.default_rng(seed)
    if op.kinks is None:
        return case
    if op.elementwise:
        return move_away_from_kinks(case, rng) if op.differentiable else case
    return case.map_float_arrays(
        lambda x: (2 * MIN_KINK_DISTANCE * rng.permutation(x.size)).reshape(x.shape).astype(x.dtype)
    )
