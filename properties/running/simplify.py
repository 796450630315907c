"""The search for simpler values of a case that fails.

Hypothesis shrinks the call and the values of the first case of an example; the values of the other cases come
from a seed and stay as drawn. So the case that Hypothesis ends with is simplified once more, greedily: blocks
of values become zeros, ones or short numbers for as long as the case still fails.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.reference.domains import Interval
from gradspec.reference.rule import Array

MAX_SIMPLIFY_TRIES = 300
SIMPLIFY_SECONDS = 3.0


def simplify_case(
    case: Case,
    fails: Callable[[Case], bool],
    *,
    smooth: bool,
    adapt: Callable[[Case], Case] = lambda case: case,
) -> Case:
    """Return a case of simpler values that still fails, found within a bounded number of tries.

    Args:
        case: The case to simplify.
        fails: Whether a case fails.
        smooth: Keep away from kinks, as a law needs that holds only away from them.
        adapt: Changes a case so that the law applies to it.
    """
    end, tries = time.monotonic() + SIMPLIFY_SECONDS, MAX_SIMPLIFY_TRIES
    improved = True
    while improved:
        improved = False
        for candidate in map(adapt, iterate_candidates(case)):
            if not tries or time.monotonic() > end:
                return case
            if count_characters_to_read(candidate) < count_characters_to_read(case) and is_legal(
                candidate, case, smooth
            ):
                tries -= 1
                if fails(candidate):
                    case, improved = candidate, True
                    break
    return case


def iterate_candidates(case: Case) -> Iterator[Case]:
    """Yield the case with a block of one array replaced, large blocks and simple numbers first."""
    arrays = (*case.inputs, case.cotangent)
    for parts in (1, 2, 4, 8, 16, 64):
        for k, x in enumerate(arrays):
            for block in np.array_split(np.arange(x.size), min(parts, x.size)) if x.size >= parts else ():
                for new in _iterate_simpler_values(x.reshape(-1)[block]):
                    flat = x.reshape(-1).copy()
                    flat[block] = new
                    yield _replace_array(case, k, flat.reshape(x.shape))


def _iterate_simpler_values(values: Array) -> Iterator[Any]:
    if values.dtype.kind in "biu":
        yield values.dtype.type(0)
        return
    yield from (values.dtype.type(number) for number in (0, 1, 2))
    if np.all(np.isfinite(values)):
        for digits in (1, 2, 3):
            yield np.array([float(f"{float(v):.{digits}g}") for v in values]).astype(values.dtype)


def count_characters_to_read(case: Case) -> int:
    """Return how much there is to read in the values of a case: 0 for 0, 1 for 1, else the length."""
    return sum(_count_digits(v) for x in (*case.inputs, case.cotangent) for v in x.reshape(-1).tolist())


def _count_digits(value: Any) -> int:
    value = float(value)
    return 0 if value == 0 else 1 if value == 1 else 2 + len(f"{value:.9g}")


def is_legal(case: Case, original: Case, smooth: bool) -> bool:
    """Return whether changed inputs are within their domains, and all are away from kinks if they must be.

    Args:
        case: The case with changed inputs.
        original: The case before; what it holds is legal, within its domain or not.
        smooth: Whether inputs must be away from kinks.
    """
    for i, (x, before) in enumerate(zip(case.inputs, original.inputs, strict=True)):
        domain = case.op.domain(i)
        new = x[(x != before) & (x == x)].astype(np.float64)
        if isinstance(domain, Interval) and not all(v in domain for v in new):
            return False
    return not smooth or case.is_smooth


def _replace_array(case: Case, k: int, x: Array) -> Case:
    """Return the case with its k-th array replaced; the last array is the cotangent."""
    return replace(case, cotangent=x) if k == len(case.inputs) else case.with_input(k, x)
