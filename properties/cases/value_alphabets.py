"""The alphabets: the numbers that arrays and cotangents are made of.

An alphabet is a short list of numbers of one domain and dtype; an element is alphabet[byte % len]. Small
alphabets make ties and zeros common, which random numbers never do. The first letter is what a shrunk case is
made of.
"""

from functools import cache
from typing import Any

import numpy as np

from gradspec.properties.cases.case import dtype_of
from gradspec.reference.domains import Interval
from gradspec.reference.rule import Array

_RNG = np.random.default_rng(0)
_ALPHABETS: tuple[Any, ...] = (
    (0, 1),
    (0, 1, -1),
    (0, 2, -1.5, 0.5),  # among a few of them two are often zeros
    (1, 2, 0.5, -1, -2, -0.5, 4, 0.25),
    (0, 1, -1, 2, 0.3, -0.7, 1.5, -2.25, 3, 0.9, -1.1),  # most are not sums of few powers of two
    tuple(_RNG.standard_normal(61)),
    tuple(_RNG.standard_normal(31) * 10.0 ** _RNG.integers(-3, 3, 31)),
    (1e-3, -1e-3, 1e-2, -1e-2, 0, 1, -1),  # around the kinks of most ops
)
_FAR_FROM_ZERO = (8, 9.5, 7, 10.5, 12)
"""Far from zero compared with the distances between them: a difference of squares loses those.

For ops that combine elements.
"""

COTANGENT_VALUES = (1.0, 2.0, -1.0, 3.0, -0.5, 1.5, -2.0, 0.75, -1.25, 2.5, 0.3)
"""What cotangents are made of: no zero, and no two neighbours alike."""


@cache
def alphabets(domain: Interval, dtype: str, allow_far: bool = False) -> tuple[Array, ...]:
    """Return the alphabets of a domain, each reduced to the letters that are in it once rounded.

    Alphabets of which fewer than two letters remain are left out.

    Args:
        domain: The numbers that may occur.
        dtype: The dtype that the letters are rounded to.
        allow_far: Whether to add the numbers that are far from zero. In 16 bits too few of them can be told
            apart.
    """
    edges = [
        x + s
        for x in (domain.low, domain.high)
        if np.isfinite(x)
        for s in (1e-3, 0.02, 0.3, -1e-3, -0.02, -0.3)
    ]
    allow_far = allow_far and dtype_of(dtype).itemsize > 2
    all_letters = (*_ALPHABETS, edges, *([_FAR_FROM_ZERO] if allow_far else []))
    candidates = [np.array(letters).astype(dtype_of(dtype)) for letters in all_letters]
    inside = [np.array([x for x in letters if float(x) in domain], letters.dtype) for letters in candidates]
    return tuple(letters for letters in inside if len(letters) > 1)
