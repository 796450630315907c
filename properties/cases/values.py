"""The alphabets from which arrays are filled.

An alphabet is a short list of numbers of one domain and dtype; an element is alphabet[byte % len]. Small alphabets make
ties and zeros common, which numbers at random never do; the first letter is what a shrunk case is made of.
"""

from functools import cache
from typing import Any

import numpy as np

from gradspec.properties.cases.case import dtype_of
from gradspec.reference.domains import Booleans, Domain, Integers, Interval
from gradspec.reference.rule import Array

_RNG = np.random.default_rng(0)
_ALPHABETS: tuple[Any, ...] = (
    (0, 1),
    (0, 1, -1),
    (0, 2, -1.5, 0.5),  # of a few of them often two are zeros
    (1, 2, 0.5, -1, -2, -0.5, 4, 0.25),
    (0, 1, -1, 2, 0.3, -0.7, 1.5, -2.25, 3, 0.9, -1.1),  # most of them no sums of few powers of two
    tuple(_RNG.standard_normal(61)),
    tuple(_RNG.standard_normal(31) * 10.0 ** _RNG.integers(-3, 3, 31)),
    (1e-3, -1e-3, 1e-2, -1e-2, 0, 1, -1),  # about the kinks of most ops
)
_FAR_FROM_ZERO = (8, 9.5, 7, 10.5, 12)
"""Far from zero next to how far they lie apart: a difference of squares loses them. For ops that combine elements."""

COTANGENT_VALUES = (1.0, 2.0, -1.0, 3.0, -0.5, 1.5, -2.0, 0.75, -1.25, 2.5, 0.3)
"""What cotangents are made of: no zero, and no two neighbours alike."""


@cache
def alphabets(domain: Interval, dtype: str, allow_far: bool = False) -> tuple[Array, ...]:
    """The alphabets of a domain: those letters that are in it once rounded, if at least two are; one of `_FAR` if asked."""
    edges = [
        x + s
        for x in (domain.low, domain.high)
        if np.isfinite(x)
        for s in (1e-3, 0.02, 0.3, -1e-3, -0.02, -0.3)
    ]
    allow_far = allow_far and dtype_of(dtype).itemsize > 2  # of 16 bits few are left there
    all_letters = (*_ALPHABETS, edges, *([_FAR_FROM_ZERO] if allow_far else []))
    candidates = [np.array(letters).astype(dtype_of(dtype)) for letters in all_letters]
    inside = [np.array([x for x in letters if float(x) in domain], letters.dtype) for letters in candidates]
    return tuple(letters for letters in inside if len(letters) > 1)


def fill_array(
    domain: Domain,
    dtype: str,
    shape: tuple[int, ...],
    choice: int,
    block: Array,
    bound: int = 1,
    allow_far: bool = False,
) -> Array:
    """An array of the shape whose elements are picked by a block of bytes from the alphabet that `choice` picks.

    Floats of the dtype from a domain of numbers, int64 below the bound from `Integers`, bool from `Booleans`. far: whether
    the numbers may lie far from zero next to their distances.
    """
    n = int(np.prod(shape))
    picks = np.resize(block, n) if len(block) else np.zeros(n, np.uint8)
    if isinstance(domain, Integers):
        return (picks.astype(np.int64) % bound).reshape(shape)
    if isinstance(domain, Booleans):
        return (picks % 2 == 0).reshape(shape)
    letters = alphabets(domain, dtype, allow_far)
    alphabet = letters[choice % len(letters)]
    return alphabet[picks % len(alphabet)].reshape(shape)


def fill_cotangent(dtype: str, shape: tuple[int, ...], block: Array) -> Array:
    """A cotangent that is never uniform: of equal bytes, too, the elements differ."""
    n = int(np.prod(shape))
    picks = (np.resize(block, n) if len(block) else np.zeros(n, np.uint8)) + np.arange(n)
    return np.array(COTANGENT_VALUES).astype(dtype_of(dtype))[picks % len(COTANGENT_VALUES)].reshape(shape)
