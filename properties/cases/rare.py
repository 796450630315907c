"""Rare cases: what drawing would seldom or never make, a few of each kind for each op, always the same.

Where an op cannot have a case of a kind, the kind has none for it. What a kind concerns is told from the
facts of the op and the names of its keywords, so that an op which somebody adds has its share.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.filling import fill_cotangent
from gradspec.properties.cases.infinities import list_float_inputs, list_infinite_ends
from gradspec.properties.cases.regular_cases import fill_call, fill_call_apart, list_keywords
from gradspec.properties.cases.regular_choices import (
    compute_value_shape,
    draw_largest_call,
    is_accepted,
    list_shapes,
)
from gradspec.reference.calls import Call, SeededChoices
from gradspec.reference.domains import Interval
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

MAX_RANK = 4  # of arrays that broadcast
CASES_OF_FIVE_AXES = 4
CASES_OF_AXES_ALIKE = 10  # of an op that combines elements, of any rank

SCALES_FAR_FROM_ZERO = (1e2, 1e3, 1e4, 1e6, 1e8, 1e10)
"""How far numbers lie from zero in units of their differences, where the dtype can tell them apart."""

SCALES_FAR_FROM_ZERO_16_BIT = {"float16": (30.0,), "bfloat16": (6.0,)}
STEPS_FAR_FROM_ZERO = np.random.default_rng(0).permutation(np.arange(-30, 31)) / 16
"""How these numbers differ: in as many ways as there are elements, so that roundings do not add up."""

EXPONENTS_OF_SIZES = range(-20, 41)  # of elementwise ops: no power of two between is left out
FAR_EXPONENTS_PER_SIDE = 14  # beyond these, up to where the square of a number is just finite
MAX_EXPONENT_FLOAT16 = 14

KEYWORDS_WITH_ENDS = frozenset({"correction", "eps", "value"})
FACTORS_OF_ONE_SIZE = (1.375, 1.375), (3, 0.75), (0.75, 3)
"""Of the numbers of one array after the other, where they are negative and where they are not."""

EPS_AT_THE_ENDS = (1e-12, 1.0, 0.0)
INFINITE_FILLS = (-np.inf, np.inf)

UNIFORM_NUMBERS = (2, 1, -1, 0, 0.5, 3)
CASES_OF_ONE_INFINITY = 8  # of an op that combines elements
CASES_OF_ONE_INFINITE_COTANGENT = 3
CALLS_OF_ROWS_TRIED = 200


def far_from_zero(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases whose numbers lie far from zero beside how far they differ, or nearly cancel."""
    if op.elementwise or not op.differentiable or op.domain(0) != Interval():
        return
    for dtype, k, scale in [(d, k, scale) for d in dtypes for k, scale in enumerate(_list_scales(d))]:
        call = draw_largest_call(op, k, (3, 8, 2, 5))
        case = fill_call(op, call, dtype, k)
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
            for keywords in list_keywords(op) if len(rows) == len(domains) else ():
                yield Case(op, dtype, tuple(rows), keywords, cotangent)


def sizes_of_numbers(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases with numbers of every size, then with numbers of one tiny size in all arrays."""
    yield from of_every_size(op, dtypes)
    yield from _of_one_tiny_size(op, dtypes)


def _of_one_tiny_size(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases whose arrays have numbers of one size in each place, the squares of which underflow.

    Where a product of differences tells what lies between what, nothing does then. Asked of elementwise ops
    of three arrays or more; in float16 hardly any number is so small.
    """
    domains = [domain for domain in op.domains if isinstance(domain, Interval)]
    if not op.elementwise or not 2 < len(domains) == len(op.domains):
        return
    factors = list(itertools.islice(itertools.cycle(FACTORS_OF_ONE_SIZE), len(domains)))
    for dtype in (d for d in dtypes if d != "float16"):
        exponents = np.linspace(0.55, 0.9, 4) * ml_dtypes.finfo(dtype_of(dtype)).minexp
        sizes = np.array([s * 2.0 ** int(k) for k in exponents for s in (1, -1)])
        rows = [np.where(sizes < 0, negative, positive) * sizes for negative, positive in factors]
        if all(x in domain for row, domain in zip(rows, domains, strict=True) for x in row):
            cotangent = fill_cotangent(dtype, sizes.shape, np.arange(len(sizes), dtype=np.uint8))
            inputs = tuple(row.astype(dtype_of(dtype)) for row in rows)
            for keywords in list_keywords(op):
                yield Case(op, dtype, inputs, keywords, cotangent)


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


def keywords_at_their_ends(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases with a correction up to the number of elements and beyond, an eps tiny, large and zero.

    A value that is filled in is infinite, as that of a mask is.
    """
    for k, dtype in enumerate([*dtypes, *dtypes]):
        call = draw_largest_call(op, k, (2, 3))
        ends: list[dict[str, Any]] = []
        if "correction" in call.keywords:
            n = _count_reduced(list_shapes(call)[0], call.keywords.get("axis"))
            ends += [{"correction": correction} for correction in (n - 1, n - 0.5, n, n + 1)]
        if "eps" in call.keywords:
            ends.append({"eps": EPS_AT_THE_ENDS[k % len(EPS_AT_THE_ENDS)]})
        if "value" in call.keywords:
            ends.append({"value": INFINITE_FILLS[k % len(INFINITE_FILLS)]})
        for keywords in ends:
            at_an_end = replace(call, keywords={**call.keywords, **keywords})
            if is_accepted(op, at_an_end):
                yield fill_call(op, at_an_end, dtype, k)


def _count_reduced(shape: tuple[int, ...], axis: Any) -> int:
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return math.prod(shape[a] for a in axes)


def metadata_as_numpy_numbers(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases with NumPy's numbers, alone, in tuples and in slices, as an argmax or a shape has them."""
    for k, dtype in zip(range(6 if op.keywords else 0), itertools.cycle(dtypes)):
        call = op.draw_call(SeededChoices(k, (1, 2, 3)))
        keywords = {name: _to_numpy_numbers(value) for name, value in call.keywords.items()}
        if repr(keywords) != repr(call.keywords):
            yield fill_call(op, replace(call, keywords=keywords), dtype, k)


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


def axes_all_alike(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases all of whose axes are equally long: what is transposed there keeps its shape.

    In those of an elementwise op of several arrays one array has fewer axes, or one of length 1: along which
    axes its gradient is summed, its shape does not tell.
    """
    if op.elementwise:
        for k, call in enumerate(_iterate_broadcasts(op)):
            yield fill_call_apart(op, call, dtypes[k % len(dtypes)], k)
        return
    for k in range(CASES_OF_AXES_ALIKE):
        yield fill_call_apart(op, op.draw_call(SeededChoices(k, (3,))), dtypes[k % len(dtypes)], k)


def _iterate_broadcasts(op: Op) -> Iterator[Call]:
    n = len(op.arguments)
    for rank, i in itertools.product(range(1, MAX_RANK + 1), range(n) if n > 1 else ()):
        for shape in _list_narrower_shapes((2,) * rank):
            shapes = [(2,) * rank] * n
            shapes[i] = shape
            yield Call(tuple(shapes), list_keywords(op)[0])


def _list_narrower_shapes(full: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return shapes that broadcast to this one: with fewer axes, and with length 1 along each axis."""
    fewer = [full[k:] for k in range(1, len(full) + 1)]
    return fewer + [(*full[:k], 1, *full[k + 1 :]) for k in range(len(full))]


def _five_axes(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases of one axis more than what is drawn, all of them equally long in every other case."""
    calls = {repr(call): call for call in (op.draw_call(_FiveAxesChoices(seed)) for seed in range(30))}
    of_five = [c for c in calls.values() if max(map(len, list_shapes(c))) > MAX_RANK]
    for k, call in enumerate(of_five[:CASES_OF_FIVE_AXES]):
        yield fill_call_apart(op, call, dtypes[k % len(dtypes)], k)


class _FiveAxesChoices(SeededChoices):
    """The `Choices` of a call of five axes, where there may be four."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, (2,) if seed % 2 else (2, 3))

    def rank(self, low: int, high: int) -> int:
        return high + 1 if low < high == MAX_RANK else high


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
        case = fill_call_apart(op, call, dtype, 1)
        g = case.cotangent.reshape(-1)
        changed = change(g, np.arange(g.size)).astype(g.dtype)
        yield replace(case, cotangent=changed.reshape(case.cotangent.shape))


def _one_infinity(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases of several rows that are ordinary but for one number: the first of an array, or the last.

    It is in each array in turn. What adds up all rows and takes differences loses the rows after it.
    """
    for k, call in enumerate(() if op.elementwise else _list_calls_of_rows(op)):
        case = fill_call(op, call, dtypes[k % len(dtypes)], k)
        floats = list_float_inputs(case)
        i = floats[k // 2 % len(floats)]
        x = case.inputs[i].copy()
        if ends := list_infinite_ends(case, i):
            x.flat[-(k % 2)] = ends[-1 - k // 4 % len(ends)]
            yield case.with_input(i, x)


def infinities(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases with one infinity among ordinary numbers, then with one among ordinary cotangents."""
    yield from _one_infinity(op, dtypes)
    yield from _one_infinite_cotangent(op, dtypes)


def _one_infinite_cotangent(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases of several rows with one infinite cotangent: the first, or the last, of either sign.

    What multiplies it by 0 makes NaN of gradients that have nothing to do with it. An elementwise op may: a
    gradient that is a product with a mask is usual there.
    """
    if op.differentiable and not op.elementwise:
        for k, call in enumerate(_list_calls_of_rows(op)[:CASES_OF_ONE_INFINITE_COTANGENT]):
            case = fill_call_apart(op, call, dtypes[k % len(dtypes)], k)
            cotangent = case.cotangent.copy()
            cotangent.flat[-(k % 2)] = -np.inf if k % 3 else np.inf
            yield replace(case, cotangent=cotangent)


@cache
def _list_calls_of_rows(op: Op) -> list[Call]:
    """Return calls whose arrays have rows, each of other ranks or with other keywords, of few axes first."""
    calls: dict[str, Call] = {}
    for seed in range(CALLS_OF_ROWS_TRIED):
        call = op.draw_call(SeededChoices(seed, (2, 3)))
        n, shapes = math.prod(compute_value_shape(op, call)), list_shapes(call)
        if n > 1 and max(map(math.prod, shapes)) >= 4:
            calls.setdefault(f"{[*map(len, shapes)]} {call.keywords}", call)
    few_axes_first = sorted(calls.values(), key=lambda call: sum(map(len, list_shapes(call))))
    return few_axes_first[:CASES_OF_ONE_INFINITY]


def unusual_calls(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield calls of five axes, then such as are seldom drawn, or never."""
    yield from _five_axes(op, dtypes)
    yield from _written_out(op, dtypes)


def _written_out(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield calls that are seldom drawn, or never: a place named in two ways, products of three arrays."""
    calls = [Call(((3, 2),), {"key": (np.array(k),)}) for k in ([2, -1, 0], [-3, 1, 0, -2])]
    calls.append(Call(((2, 3), (3, 1), (1, 2)), {"subscripts": "ij,jk,kl->il"}))
    for call in calls:
        if call.keywords.keys() <= {*op.keywords} and is_accepted(op, call):
            yield from (fill_call(op, call, dtype, 0) for dtype in dtypes)


def one_uniform_array(op: Op, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases of an elementwise op in which one of several arrays has the same number throughout.

    Such a number invites a formula of its own, as an exponent of 2 does.
    """
    domains = [domain for domain in op.domains if isinstance(domain, Interval)]
    if not op.elementwise or len(domains) < 2 or len(domains) < len(op.domains):
        return
    choices_of_keywords = list_keywords(op)
    for k, (i, number) in enumerate(itertools.product(range(len(domains)), UNIFORM_NUMBERS)):
        call = Call(((6,),) * len(domains), choices_of_keywords[k % len(choices_of_keywords)])
        case = fill_call_apart(op, call, dtypes[k % len(dtypes)], k)
        uniform = case.with_input(i, np.full_like(case.inputs[i], number))
        if number in domains[i] and (uniform.is_smooth or not op.differentiable):
            yield uniform
