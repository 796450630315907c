"""Is a program differentiated however long it is?

Does not see: how time and memory grow with the length, more than 5,001 steps, ops that save arrays for the
pass back (negation saves none), programs that branch, or an even number of lost signs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import dtype_of
from gradspec.properties.cases.literals import format_assignments
from gradspec.properties.cases.reproducible import ReprCase
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.judging.judgement import Severity
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"

CHAIN_STEPS = 5_001
"""More steps than any call stack is deep; an engine that does not recurse takes a moment for them.

An odd number, so that a sign that every step loses is lost in all.
"""


@dataclass(frozen=True)
class Chain(ReprCase):
    """A chain of negations, one after the other, of three numbers."""

    dtype: str
    length: int = CHAIN_STEPS

    def make_arrays(self) -> tuple[Array, Array]:
        """Return the input and the cotangent."""
        x, g = (np.array(numbers).astype(dtype_of(self.dtype)) for numbers in ([1, -2, 0.5], [3, 0.25, -1]))
        return x, g


def describe_calls(chain: Chain, name_op: Callable[[str], str]) -> list[str]:
    """Return the arrays of a chain as NumPy literals, and below them its calls.

    Args:
        chain: The chain.
        name_op: From the name of an op to that of the library's function.
    """
    x, g = chain.make_arrays()
    return [
        *format_assignments({"x": x, "cotangent": g}),
        f"# for _ in range({chain.length}): x = {name_op('negative')}(x)",
    ]


def a_chain_of_any_length_is_differentiated(backend: Backend, chain: Chain) -> Judgement:
    """Judge whether value and gradient are the input and the cotangent, negated for an odd length.

    They must be so exactly: negation does not round.
    """

    def run(x: Array) -> Array:
        for _ in range(chain.length):
            x = backend.ops["negative"](x)
        return x

    x, g = chain.make_arrays()
    value, pullback = backend.vjp(run, backend.from_numpy(x))
    (gradient,) = pullback(backend.from_numpy(g))
    for what, result, start in (("value", value, x), ("gradient", gradient, g)):
        expected, got = start * (-1) ** chain.length, backend.to_numpy(result)
        if not np.array_equal(got, expected):
            return Judgement("disagree", f"the {what} is {got}, expected exactly {expected}")
    return Judgement("agree")
