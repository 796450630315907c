"""Cases of extreme numbers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from gradspec.properties.cases import values
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.drawing.strategies import Draw, cases
from gradspec.reference.domains import Interval
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

MAX_ELEMENTS_EXTREME = 12  # elements of the largest array: one that overflows says little of the others
KINDS_OF_EXTREMES = 5  # of being extreme
P_CONSTANT_ARRAY = 0.25  # of the arrays hold one number throughout: any, or as often -0, an infinity or NaN
P_SAME_KIND_IN_ALL = 0.5  # of the cases have the same kind of extremes in all arrays
P_SINGLE_EXTREME = (
    0.25  # of the arrays have a single extreme number, most often a special one, among ordinary ones
)


@st.composite
def extreme_cases(
    draw: Draw,
    op: Op,
    dtypes: Sequence[str],
    cases_per_example: int,
    max_elements: int = MAX_ELEMENTS_EXTREME,
) -> list[Case]:
    """Cases of one call as `cases` draws them, with some or all of their numbers made extreme, each array in one way."""
    drawn = draw(cases(op, dtypes, cases_per_example, False, max_elements))
    rng = np.random.default_rng(draw(st.integers(0, 2**16 - 1)))
    return [_make_extreme(case, rng) for case in drawn]


def iterate_extreme_cases(op: Op, dtype: str) -> Iterator[Case]:
    """Cases of an elementwise op of one or two arguments in which every extreme number, or every pair, occurs with every keyword.

    The numbers of one argument come in rows of a kind, since next to what underflows the others are not looked at closely.
    """
    domains = [domain for domain in op.domains if isinstance(domain, Interval)]
    if len(domains) < len(op.domains):
        raise TypeError(f"{op} takes other than floats; rows of extremes are of floats only")
    for keywords in _iterate_keywords(op):
        for rows in _iterate_rows(domains, dtype):
            yield _make_case(op, dtype, rows, keywords)


def _iterate_keywords(op: Op) -> Iterator[dict[str, Any]]:
    """All that the keywords of an op with a signature may be together."""
    for chosen in product(*op.options.values()):
        yield dict(zip(op.options, chosen, strict=True))


def _iterate_rows(domains: Sequence[Interval], dtype: str) -> Iterator[list[Array]]:
    """Rows of extreme numbers, one for each argument."""
    if len(domains) == 1:
        yield from ([row] for row in extreme_alphabets(domains[0], dtype))
        return
    rows = [_drop_duplicates(np.concatenate(extreme_alphabets(domain, dtype))) for domain in domains]
    n = max(map(len, rows))
    first, *others = [np.resize(row, n) for row in rows]
    for k in range(n):
        yield [first, *(np.roll(row, k) for row in others)]


def _drop_duplicates(x: Array) -> Array:
    """Each number once, zeros of both signs."""
    return np.append(np.unique(x), x[(x == 0) & np.signbit(x)][:1])


def _make_case(op: Op, dtype: str, rows: list[Array], keywords: dict[str, Any]) -> Case:
    n = len(rows[0])
    return Case(
        op, dtype, tuple(rows), keywords, values.fill_cotangent(dtype, (n,), np.arange(n, dtype=np.uint8))
    )


def _make_extreme(case: Case, rng: np.random.Generator) -> Case:
    inputs = []
    alike, way = rng.random() < P_SAME_KIND_IN_ALL, rng.integers(KINDS_OF_EXTREMES)
    for i, x in enumerate(case.inputs):
        domain = case.op.domain(i)
        if isinstance(domain, Interval):
            ways = extreme_alphabets(domain, case.dtype)
            letters = ways[way if alike else rng.integers(KINDS_OF_EXTREMES)]
            picked = rng.random(x.shape) < rng.choice([0.4, 1.0])
            kind = rng.random()
            if kind < P_CONSTANT_ARRAY + P_SINGLE_EXTREME and rng.random() < 1 / 2:
                letters = ways[-1][1:-1]
            if kind < P_CONSTANT_ARRAY:
                letters, picked = rng.choice(letters, 1), np.full(x.shape, True)
            elif kind < P_CONSTANT_ARRAY + P_SINGLE_EXTREME:
                picked = np.arange(x.size).reshape(x.shape) == rng.integers(max(x.size, 1))
            x = np.where(picked, letters[rng.integers(len(letters), size=x.shape)], x)
        inputs.append(x)
    return replace(case, inputs=tuple(inputs))


@cache
def extreme_alphabets(domain: Interval, dtype: str) -> tuple[Array, ...]:
    """Alphabets of extreme numbers of a domain, its ends and infinities included: large, largest, small, special."""
    info = ml_dtypes.finfo(dtype_of(dtype))
    largest, smallest, tiny = float(info.max), float(info.tiny), float(info.smallest_subnormal)
    root = 2.0 ** math.floor(math.log2(largest) / 2)
    sizes = (
        (20, 100, 1000, 1),  # where a naive exp overflows
        (root, root / 4, root * 4, largest / 2**12, 1),  # where squares overflow
        (largest, largest / 2, 1),
        (smallest, smallest / 2, tiny, 2 * tiny, 1 / root, 1),
    )
    signed = [[s * x for x in xs for s in (1, -1)] for xs in sizes]
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0]
    inside = [[x for x in xs if domain.low <= x <= domain.high or x != x] for xs in (*signed, special)]
    return tuple(np.array(xs).astype(dtype_of(dtype)) for xs in inside)
