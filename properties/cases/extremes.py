"""Extreme numbers: alphabets of them, and cases made extreme."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import run_spec
from gradspec.properties.cases.filling import fill_cotangent
from gradspec.properties.cases.infinities import (
    find_ordinary_infinities,
    list_float_inputs,
    list_infinite_ends,
)
from gradspec.reference.domains import Interval
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

P_SAME_KIND_IN_ALL = 0.5  # of a case in which all arrays have the same kind of extremes
P_CONSTANT_ARRAY = 0.25  # of an array of one number throughout: any, or as often -0, an infinity or NaN
P_SINGLE_EXTREME = 0.25  # of an array with one extreme number among ordinary ones, most often a special one

P_MASKED = 0.4  # of a case of an op that takes infinities as ordinary numbers
P_MINUS_INF = 0.75  # of the infinity in a mask, where the op takes both
P_NAN_BESIDE_MASK = 0.2  # of a masked array with a NaN in it, too
P_ONE_INFINITY = 0.1  # of another case of an op that combines elements, of which one number is infinite
P_IN_ONE_ROW = 0.65  # of another case in which only one row of each array is extreme
P_ROW_OF_ONE_VALUE = 0.75  # of a row that is what goes into one element of the value


@cache
def extreme_alphabets(domain: Interval, dtype: str) -> tuple[Array, ...]:
    """Return one alphabet for each kind of extreme, each reduced to the numbers in the domain or at its ends.

    The kinds are: large for an exponential, large for a square, largest, small, and special (zeros,
    infinities, NaN).
    """
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


N_KINDS_OF_EXTREMES = len(extreme_alphabets(Interval(), "float64"))
KINDS_IN_ONE_ROW = (0, 1, 1, 2, 2, 3, 3, 4)
"""The numbers of kinds: what is finite and overflows or underflows on its way is drawn twice as often."""


def make_extreme(case: Case, rng: np.random.Generator) -> Case:
    """Return the case with some or all of the floats in its inputs made extreme, each array in one way.

    Often it is masked instead, if the op takes infinities as ordinary numbers somewhere; and often only what
    goes into one element of the value is extreme, so that there are others to be judged beside it. Neither is
    possible where each array is a single number.
    """
    has_others = any(x.size > 1 for x in case.inputs)
    maskable = find_maskable_inputs(case)
    if has_others and maskable and rng.random() < P_MASKED:
        return mask_arrays(case, maskable, rng)
    if has_others and not case.op.elementwise and rng.random() < P_ONE_INFINITY:
        return put_one_infinity(case, rng)
    inputs = []
    same_kind_in_all = rng.random() < P_SAME_KIND_IN_ALL
    may_have_rows = has_others and not case.op.elementwise
    rows = pick_rows(case, rng) if may_have_rows and rng.random() < P_IN_ONE_ROW else None
    kinds = KINDS_IN_ONE_ROW if rows else range(N_KINDS_OF_EXTREMES)
    kind_in_all = rng.choice(kinds)
    for i, x in enumerate(case.inputs):
        domain = case.op.domain(i)
        if isinstance(domain, Interval):
            alphabets = extreme_alphabets(domain, case.dtype)
            letters = alphabets[kind_in_all if same_kind_in_all else rng.choice(kinds)]
            picked = rng.random(x.shape) < rng.choice([0.4, 1.0])
            p = rng.random()
            if p < P_CONSTANT_ARRAY + P_SINGLE_EXTREME and rng.random() < 1 / 2:
                letters = alphabets[-1][1:-1]
            if p < P_CONSTANT_ARRAY:
                letters, picked = rng.choice(letters, 1), np.full(x.shape, True)
            elif p < P_CONSTANT_ARRAY + P_SINGLE_EXTREME:
                picked = np.arange(x.size).reshape(x.shape) == rng.integers(max(x.size, 1))
            if rows:
                picked = picked & rows[i] & (i == 0 or rng.random() < 1 / 2)
            x = np.where(picked, letters[rng.integers(len(letters), size=x.shape)], x)
        inputs.append(x)
    return replace(case, inputs=tuple(inputs))


def put_one_infinity(case: Case, rng: np.random.Generator) -> Case:
    """Return the case with an infinity in the place of one float, if it has any: all others stay ordinary."""
    floats = list_float_inputs(case)
    if not floats:
        return case
    i = int(rng.choice(floats))
    x = case.inputs[i].copy()
    if ends := list_infinite_ends(case, i):
        x.flat[rng.integers(x.size)] = rng.choice(ends)
    return case.with_input(i, x)


def mask_arrays(case: Case, maskable: Sequence[int], rng: np.random.Generator) -> Case:
    """Return the case with infinities among ordinary numbers, as masks have them.

    They are scattered over an array, or fill a row of it, or both. Now and then a NaN stands among them.

    Args:
        case: The case.
        maskable: The numbers of the inputs that take an infinity as an ordinary number.
        rng: The source of randomness.
    """
    inputs, rows = list(case.inputs), pick_rows(case, rng)
    for i in maskable:
        x, how = inputs[i], rng.choice(["scattered", "row", "row", "both"])
        masked = rng.random(x.shape) < rng.choice([0.2, 0.5])
        if how != "scattered":
            masked = rows[i] | (masked if how == "both" else False)
        inputs[i] = np.where(masked, _pick_infinity(case, i, rng), x).astype(x.dtype)
        if x.size and rng.random() < P_NAN_BESIDE_MASK:
            inputs[i].flat[rng.integers(x.size)] = np.nan
    return replace(case, inputs=tuple(inputs))


def pad_arrays(case: Case, rng: np.random.Generator) -> Case:
    """Return the case with infinities before a place along the longest axis, or after it, as in padding."""
    inputs = list(case.inputs)
    for i in find_maskable_inputs(case):
        masked = _pick_padding(inputs[i].shape, rng)
        inputs[i] = np.where(masked, _pick_infinity(case, i, rng), inputs[i]).astype(inputs[i].dtype)
    return replace(case, inputs=tuple(inputs))


def find_maskable_inputs(case: Case) -> list[int]:
    """Return the numbers of the inputs that take an infinity as an ordinary number."""
    return [i for i in range(len(case.inputs)) if find_ordinary_infinities(case.op, i)]


def _pick_infinity(case: Case, i: int, rng: np.random.Generator) -> float:
    infinities = find_ordinary_infinities(case.op, i)
    return infinities[0] if rng.random() < P_MINUS_INF else infinities[-1]


def pick_rows(case: Case, rng: np.random.Generator) -> list[Array]:
    """Return for each input where a row of it is: what goes into one element of the value, or one axis has.

    What goes into an element is what gets a gradient of NaN from a cotangent that is NaN there. Where that is
    one number, as the winner of a maximum, the row is one along an axis.
    """
    parts: dict[str, Array] = {}
    if case.cotangent.size and rng.random() < P_ROW_OF_ONE_VALUE:
        wide = case.map_float_arrays(lambda x: x.astype(np.float64))
        cotangent = np.zeros_like(wide.cotangent)
        cotangent.flat[rng.integers(cotangent.size)] = np.nan
        with np.errstate(all="ignore"):
            gradients = run_spec(replace(wide, cotangent=cotangent)).gradients
        parts = {name: at for name, d in gradients.items() if np.sum(at := np.isnan(d)) > 1}
    return [
        parts.get(case.op.argument_name(i), _pick_along_axis(x.shape, rng)) for i, x in enumerate(case.inputs)
    ]


def _pick_along_axis(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return where the index along one axis is one number; along an axis of several, if there is one."""
    axes = [i for i, n in enumerate(shape) if n > 1] or [i for i, n in enumerate(shape) if n]
    if not axes:
        return np.full(shape, True)
    axis = rng.choice(axes)
    picked: Array = np.indices(shape)[axis] == rng.integers(shape[axis])
    return picked


def _pick_padding(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return where the index along the longest axis is below a number, or is not."""
    if max(shape, default=0) < 2:
        return np.full(shape, False)
    axis = int(np.argmax(shape))
    n = shape[axis]
    before: Array = np.indices(shape)[axis] < rng.choice([1, n // 2, n - 1])
    return before if rng.random() < 1 / 2 else ~before


def iterate_extreme_cases(op: Op, dtype: str) -> Iterator[Case]:
    """Yield cases of an elementwise op in which every extreme number, or every pair, meets every keyword.

    The numbers of one argument come in rows of a kind: next to what underflows, others are not looked at
    closely.

    Args:
        op: An op of one or two arguments, both floats.
        dtype: The dtype of the floats.

    Raises:
        TypeError: If the op takes other arrays than floats.
    """
    domains = [domain for domain in op.domains if isinstance(domain, Interval)]
    if len(domains) < len(op.domains):
        raise TypeError(f"{op} takes arrays other than floats; rows of extremes exist for floats only")
    for keywords in _iterate_keywords(op):
        for rows in _iterate_rows(domains, dtype):
            yield _make_case(op, dtype, rows, keywords)


def _iterate_keywords(op: Op) -> Iterator[dict[str, Any]]:
    """Yield every combination of keywords of an op with a signature."""
    for chosen in product(*op.options.values()):
        yield dict(zip(op.options, chosen, strict=True))


def _iterate_rows(domains: Sequence[Interval], dtype: str) -> Iterator[list[Array]]:
    """Yield rows of extreme numbers, one row for each argument."""
    if len(domains) == 1:
        yield from ([row] for row in extreme_alphabets(domains[0], dtype))
        return
    rows = [_drop_duplicates(np.concatenate(extreme_alphabets(domain, dtype))) for domain in domains]
    n = max(map(len, rows))
    first, *others = [np.resize(row, n) for row in rows]
    for k in range(n):
        yield [first, *(np.roll(row, k) for row in others)]


def _drop_duplicates(x: Array) -> Array:
    """Return each number once, but zeros of both signs: which of them `np.unique` keeps is up to its sort."""
    zeros = x[x == 0]
    return np.concatenate([np.unique(x[x != 0]), *(zeros[np.signbit(zeros) == sign][:1] for sign in (0, 1))])


def _make_case(op: Op, dtype: str, rows: list[Array], keywords: dict[str, Any]) -> Case:
    n = len(rows[0])
    return Case(op, dtype, tuple(rows), keywords, fill_cotangent(dtype, (n,), np.arange(n, dtype=np.uint8)))
