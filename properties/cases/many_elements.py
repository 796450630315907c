"""Cases of many elements: more than a tile holds, than 16 bits can index, count or add up.

They are rare cases, too, a few of each kind for each op, always the same.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.regular_cases import fill_call, fill_call_apart, list_keywords
from gradspec.properties.cases.regular_choices import (
    count_elements,
    is_accepted,
    list_calls_with_long_axis,
    list_square_calls,
)
from gradspec.reference.calls import Call, IntegerArrayBelow
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

LARGE_SIZE = 66_049
"""Of the longest axis: past 65,535, where an index of 16 bits and a grid of blocks end, and past any tile.

It is 257 squared, so that tiles of 2 to 512 elements leave one behind; float16 cannot hold it.
"""

LARGE_SIDE = 300
"""Of a square with more than 65,535 elements: past any tile, with more than one element left behind."""

MAX_LARGE_ELEMENTS = 3 * LARGE_SIZE  # of all arrays of a large case of an op that combines elements

PERIOD = 61
"""After how many elements large arrays repeat: a prime, which no index off by a power of two falls into."""

TILE_LENGTHS = (192, 320, LARGE_SIDE, 256)
"""Of the first two, multiples of 64, half a tile is left behind; the last is a whole number of tiles."""

ROWS_OF_SUMS = {"bfloat16": 2000, "float16": 4096}  # sums of ones stop growing at 256 and at 2,048
MAX_ELEMENTS_PER_ROW_OF_SUMS = 8  # of all arrays of a call
ROWS_OF_OTHER_SUMS = 2100  # in other dtypes: past any block of threads
TIES_BY_DTYPE = {"bfloat16": 300, "float16": LARGE_SIZE}  # more than the dtype can count

LETTERS_OF_SUMS = (1, 0.5, 0.625, 1.25)
"""What long sums are made of: of one sign, and none is the mean of some others."""

FACTOR_OF_OVERFLOWING_SUMS = 64
"""By which these are larger where the sum of a whole axis overflows in float16, and its mean does not."""

LETTERS_OF_LARGE_SUMS = (1, 0.5, 1, 2)
"""Products of them add up exactly, in any order, and the product of all four is 1."""


def left_behind_by_tiles(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases with an axis, in each place in turn, of a length that leaves elements behind, or just not.

    The first place and the last are tried with each of the lengths, those between with one of them.
    """
    turns = itertools.count()
    for k, length in enumerate(TILE_LENGTHS):
        calls = list_calls_with_long_axis(op, length, by_rank=True)
        between = () if op.elementwise else calls[1:-1][k :: len(TILE_LENGTHS)]
        for call in (*_pick_places(calls, 2), *between):
            yield fill_call_apart(op, call, dtypes[next(turns) % len(dtypes)], k)


def large(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases of more than 65,535 elements, along one axis and along two.

    Those of elementwise ops are of one axis, in each dtype, and their arrays repeat.
    """
    if op.elementwise:
        for dtype in dtypes:
            call = Call(((PERIOD,),) * len(op.arguments), list_keywords(op)[0])
            small = fill_call_apart(op, call, dtype, 0)
            repeated = tuple(np.resize(x, LARGE_SIZE) for x in small.inputs)
            yield replace(small, inputs=repeated, cotangent=np.resize(small.cotangent, LARGE_SIZE))
        return
    dtype = "float32" if "float32" in dtypes else dtypes[-1]
    calls = list_calls_with_long_axis(op, LARGE_SIZE, max_elements=MAX_LARGE_ELEMENTS)
    square_calls = list_square_calls(op, LARGE_SIDE, MAX_LARGE_ELEMENTS)
    for call in [*_pick_places(calls, 4), *_pick_places(square_calls, 3)]:
        case = _reach_the_last_place(fill_call_apart(op, call, dtype, 0), call)
        letters = np.array(LETTERS_OF_LARGE_SUMS).astype(dtype_of(dtype))
        yield case if op.kinks or not op.differentiable else _fill_with_letters(case, letters)
    if "key" in op.keywords:  # the drawn ones pick few elements
        x, places = np.resize(np.arange(PERIOD), LARGE_SIZE).astype(dtype_of(dtype)), np.arange(LARGE_SIZE)
        for key in (slice(None, None, -1), np.roll(places, 1)):
            if is_accepted(op, Call((x.shape,), {"key": (key,)})):
                yield Case(op, dtype, (x,), {"key": (key,)}, np.roll(x, 7))


def _reach_the_last_place(case: Case, call: Call) -> Case:
    """Return the case with the last of its indices, of each array of them, as large as it may be."""
    for i, (x, shape) in enumerate(zip(case.inputs, call.shapes, strict=True)):
        if isinstance(shape, IntegerArrayBelow) and x.size and shape.distinct_along is None:
            indices = x.copy()
            indices.flat[-1] = shape.bound - 1
            case = case.with_input(i, indices)
    return case


def long_sums(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases in 16 bits in which many numbers of one sign are added up, forwards or backwards.

    In other dtypes only what an index that recurs picks is, in numbers that add up exactly: how far another
    order may move other sums, nothing tells there.
    """
    if not op.differentiable or op.kinks or (op.elementwise and len(op.arguments) < 2):
        return
    for dtype in dtypes:
        letters = np.array(LETTERS_OF_SUMS).astype(dtype_of(dtype))
        if dtype in ROWS_OF_SUMS:
            calls = [
                call
                for call in list_calls_with_long_axis(op, ROWS_OF_SUMS[dtype])
                if count_elements(call) <= MAX_ELEMENTS_PER_ROW_OF_SUMS * ROWS_OF_SUMS[dtype]
            ]
            for call in _pick_places(calls, 4):
                case = _fill_with_letters(fill_call(op, call, dtype, 0), letters)
                yield case
                yield _repeat_along_long_axes(case, letters)
            for call in calls[-1:] if dtype == "float16" else ():
                case = _fill_with_letters(fill_call(op, call, dtype, 0), letters)
                enlarged = case.map_float_arrays(lambda x: x * x.dtype.type(FACTOR_OF_OVERFLOWING_SUMS))
                yield replace(enlarged, cotangent=case.cotangent)
        if "key" in op.keywords:
            n = ROWS_OF_SUMS.get(dtype, ROWS_OF_OTHER_SUMS)
            places = np.arange(n) // (n - 1)
            if is_accepted(op, Call(((3,),), {"key": (places,)})):
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
    """Return the case with one row repeated along its long axis.

    So differences keep one sign, and no row of a gradient nearly vanishes by chance.
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
            yield fill_call(op, call, dtype, 0).map_float_arrays(np.ones_like)


def _pick_places(calls: Sequence[Call], count: int) -> list[Call]:
    """Return some of the calls, the first and the last among them: a long axis in few arrays and in many."""
    places = np.unique(np.linspace(0, len(calls) - 1, count).round()) if calls else ()
    return [calls[int(k)] for k in places]
