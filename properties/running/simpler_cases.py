"""Simpler cases than a given one: plainer layouts, and numbers that are short or tell more.

Fewer elements are in `cuts`. Whether a simpler case still fails, the search in `simplify` finds out.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import Result
from gradspec.properties.cases.repetition import MAX_NUMBERS_LISTED, find_period, get_bits, is_constant
from gradspec.properties.judging.judge import Judge
from gradspec.properties.judging.judgement import WrongElement
from gradspec.properties.running.cuts import find_loop_shape, take_member
from gradspec.reference.domains import Interval
from gradspec.reference.rule import Array

MAX_COMBINATIONS = 1000
"""How many combinations of telling numbers are looked at, most of them by the spec alone."""


# Plainer layouts and cotangents


def iterate_plain_layouts(case: Case) -> Iterator[Case]:
    """Yield the case with all arrays in C order, then with each of them in turn."""
    if not case.layouts:
        return
    yield replace(case, layouts=())
    for i, layout in enumerate(case.layouts):
        if layout != "C":
            yield replace(case, layouts=(*case.layouts[:i], "C", *case.layouts[i + 1 :]))


def iterate_simple_cotangents(case: Case, wrong: WrongElement | None) -> Iterator[Case]:
    """Yield the case with a cotangent that is 1 at one element and 0 at the others, or 1 throughout."""
    g = case.cotangent
    if g.size > 1:
        at = wrong.at if wrong is not None and len(wrong.at) == g.ndim else ()
        known = [at] if at and all(i < n for i, n in zip(at, g.shape, strict=True)) else []
        for position in [*known, (0,) * g.ndim, tuple(n - 1 for n in g.shape)]:
            one_hot = np.zeros_like(g)
            one_hot[position] = 1
            yield replace(case, cotangent=one_hot)
    yield replace(case, cotangent=np.ones_like(g))


# Numbers that tell more


def iterate_telling_numbers(case: Case, original: Case, wrong: WrongElement | None) -> Iterator[Case]:
    """Yield cases of one element with other numbers and the cotangent 1 whose result is finite and not zero.

    Args:
        case: The case, of an elementwise op; of another nothing is yielded.
        original: The case with all its elements, each of which is tried by itself.
        wrong: The element that is wrong.
    """
    if not case.op.elementwise or not case.cotangent.size:
        return
    if case.cotangent.size > 1:
        loop = find_loop_shape(case)
        case = take_member(case, loop, (0,) * len(loop))
    one = np.ones_like(case.cotangent)
    for candidate in itertools.chain(
        _iterate_elements(original, case), _iterate_combinations(case, list_telling_numbers(case.dtype))
    ):
        candidate = replace(candidate, cotangent=one)
        if is_within_domains(candidate) and _is_telling(candidate, wrong):
            yield candidate


def _iterate_elements(original: Case, case: Case) -> Iterator[Case]:
    """Yield the elements of a case by themselves, in the shapes of another."""
    loop = find_loop_shape(original)
    for position in itertools.islice(np.ndindex(*loop), MAX_COMBINATIONS // 4):
        member = take_member(original, loop, position)
        inputs = [x.reshape(like.shape) for x, like in zip(member.inputs, case.inputs, strict=True)]
        yield replace(case, inputs=tuple(inputs))


def _iterate_combinations(case: Case, numbers: Sequence[float]) -> Iterator[Case]:
    """Yield the case with each combination of these numbers in its inputs, equal ones first."""
    floats = [i for i, x in enumerate(case.inputs) if x.dtype.kind not in "biu"]
    count = len(numbers) if len(floats) < 3 else int(MAX_COMBINATIONS ** (1 / len(floats)))
    for chosen in sorted(
        itertools.product(range(count), repeat=len(floats)), key=lambda c: (len(set(c)), sum(c))
    ):
        new = case
        for i, k in zip(floats, chosen, strict=True):
            new = new.with_input(i, np.full_like(case.inputs[i], numbers[k]))
        yield new


def list_telling_numbers(dtype: str) -> list[float]:
    """Return numbers of all sizes, among them such as their squares over- and underflow in the dtype."""
    info = ml_dtypes.finfo(dtype_of(dtype))
    exponent = int(math.log10(float(info.max))) // 2 + 1
    squares_to_zero = 10.0 ** -(exponent + int(-math.log10(float(info.eps))) // 2 + 1)
    large = 10.0**exponent
    return [1, 2, 0.5, large, 1 / large, squares_to_zero, 3, -1, -2, -large, 20, -20, 100]


def _is_telling(case: Case, wrong: WrongElement | None) -> bool:
    """Return whether the result that is wrong should be finite and not zero at these numbers."""
    exact: Result = Judge(case).exact
    results = {"value": exact.value} | {f"gradient of {name}": d for name, d in exact.gradients.items()}
    asked = [results[wrong.what]] if wrong is not None and wrong.what in results else list(results.values())
    with np.errstate(all="ignore"):
        rounded = [
            x.astype(dtype_of(case.dtype)).astype(np.float64) for x in asked if x.dtype.kind not in "biu"
        ]
    return any(np.any(np.isfinite(x) & (x != 0)) for x in rounded)


# Numbers that are short


def iterate_constant_arrays(case: Case) -> Iterator[Case]:
    """Yield the case with its large arrays constant, all of them at 1 or one by one, then with short periods.

    What many numbers do together seldom depends on what they are.
    """
    arrays = (*case.inputs, case.cotangent)
    large = [k for k, x in enumerate(arrays) if x.size > MAX_NUMBERS_LISTED and not is_constant(x)]
    floats = [k for k in large if arrays[k].dtype.kind not in "biu"]
    if len(floats) > 1:
        all_ones = case
        for k in floats:
            all_ones = _replace_array(all_ones, k, np.ones_like(arrays[k]))
        yield all_ones
    for k in large:
        x = arrays[k]
        for value in (1, 2) if k in floats else ():
            yield _replace_array(case, k, np.full_like(x, value))
        for period in (1, 2, 4):
            yield _replace_array(case, k, np.resize(x.reshape(-1)[:period], x.shape))


def iterate_simpler_blocks(case: Case) -> Iterator[Case]:
    """Yield the case with a block of one array replaced, large blocks and simple numbers first."""
    characters = count_characters_to_read(case)
    arrays = (*case.inputs, case.cotangent)
    for parts in (1, 2, 4, 8, 16, 64):
        for k, x in enumerate(arrays):
            for block in np.array_split(np.arange(x.size), min(parts, x.size)) if x.size >= parts else ():
                for new in _iterate_simpler_values(x.reshape(-1)[block]):
                    flat = x.reshape(-1).copy()
                    flat[block] = new
                    candidate = _replace_array(case, k, flat.reshape(x.shape))
                    if count_characters_to_read(candidate) < characters:
                        yield candidate


def _iterate_simpler_values(values: Array) -> Iterator[Any]:
    if values.dtype.kind in "biu":
        yield values.dtype.type(0)
        return
    yield from (values.dtype.type(number) for number in (0, 1, 2))
    if np.all(np.isfinite(values)):
        for digits in (1, 2, 3):
            yield np.array([float(f"{float(v):.{digits}g}") for v in values]).astype(values.dtype)


def count_characters_to_read(case: Case) -> int:
    """Return how much there is to read in the values of a case: 0 for 0, 1 for 1, else the length.

    Of many numbers that repeat it is that of one period, since that is how they are written down.
    """
    return sum(map(_count_characters_of, (*case.inputs, case.cotangent)))


def _count_characters_of(x: Array) -> int:
    flat = x.reshape(-1)
    if x.size <= MAX_NUMBERS_LISTED:
        return sum(map(_count_digits, flat.tolist()))
    period = find_period(x)
    _, first, counts = np.unique(get_bits(flat[:period]), return_index=True, return_counts=True)
    return sum(_count_digits(v) * n for v, n in zip(flat[first].tolist(), counts.tolist(), strict=True))


def _count_digits(value: Any) -> int:
    value = float(value)
    return 0 if value == 0 else 1 if value == 1 else 2 + len(f"{value:.9g}")


# What a simpler case must not do


def is_legal(case: Case, original: Case, smooth: bool) -> bool:
    """Return whether changed inputs are within their domains, and as far from kinks as they must be.

    On a kink more than one gradient is right, and a law that judges one there was not asked about kinks.

    Args:
        case: The case with changed inputs.
        original: The case before; what it holds is legal, within its domain or not, and so is any part of it.
        smooth: Whether inputs must be away from kinks.
    """
    for i, (x, before) in enumerate(zip(case.inputs, original.inputs, strict=True)):
        domain = case.op.domain(i)
        if isinstance(domain, Interval) and x.shape == before.shape:
            new = x[(x != before) & (x == x)].astype(np.float64)
            if not all(v in domain for v in new):
                return False
    return case.is_smooth if smooth else _is_on_kink(original) or not _is_on_kink(case)


def _is_on_kink(case: Case) -> bool:
    return case.op.differentiable and any(np.any(d == 0) for d in case.compute_kink_distances())


def is_within_domains(case: Case) -> bool:
    """Return whether all inputs of floats are within their domains."""
    domains = map(case.op.domain, range(len(case.inputs)))
    return all(
        all(float(v) in domain for v in x.reshape(-1))
        for x, domain in zip(case.inputs, domains, strict=True)
        if isinstance(domain, Interval)
    )


def _replace_array(case: Case, k: int, x: Array) -> Case:
    """Return the case with its k-th array replaced; the last array is the cotangent."""
    return replace(case, cotangent=x) if k == len(case.inputs) else case.with_input(k, x)
