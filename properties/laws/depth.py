"""Is a program differentiated however long it is?"""

from dataclasses import dataclass

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import dtype_of
from gradspec.properties.cases.reproducible import ReprCase
from gradspec.properties.judging.judge import Judgement
from gradspec.reference.rule import Array

CHAIN_STEPS = 5_000  # steps: more than any stack is deep on which one calls the next, and a moment for those that use none


@dataclass(frozen=True)
class Chain(ReprCase):
    """Negations, one after the other, of three numbers."""

    dtype: str
    length: int = CHAIN_STEPS


def a_chain_of_any_length_is_differentiated(backend: Backend, chain: Chain) -> Judgement:
    """Value and gradient are the input and the cotangent, to the bit: negation does not round."""

    def run(x: Array) -> Array:
        for _ in range(chain.length):
            x = backend.ops["negative"](x)
        return x

    x, g = (np.array(numbers).astype(dtype_of(chain.dtype)) for numbers in ([1, -2, 0.5], [3, 0.25, -1]))
    value, pullback = backend.vjp(run, backend.from_numpy(x))
    (d,) = pullback(backend.from_numpy(g))
    for what, got, start in (("value", value, x), ("gradient", d, g)):
        expected, seen = start * (-1) ** chain.length, backend.to_numpy(got)
        if not np.array_equal(seen, expected):
            return Judgement("disagree", f"the {what} is {seen}, expected {expected}, exactly")
    return Judgement("agree")
