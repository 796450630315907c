"""Usual formulas of an op: right, but they lose digits where numbers are large or small.

    def one_minus_square(x: Real) -> VJP:
        y = np.tanh(x)
        return y, (lambda g: g * (1 - y * y),)

    @op("()->()", also=(one_minus_square,))
    def tanh(x: Real) -> VJP: ...

Where numbers are moderate all formulas of an op are the same function to nearly all digits; declaring an op
compares them there.
"""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradspec.reference.arrays import unbroadcast
from gradspec.reference.calls import Call, IntegerArrayBelow
from gradspec.reference.domains import Domain, Interval
from gradspec.reference.rule import Array, Rule

_LEAST_DISTANCE, _LARGEST_DISTANCE = 0.25, 2.0
"""How far moderate numbers are from zero, or from the end of the domain where it has one."""

_DIGITS_LOST = 2.0**8
"""How many units in the last place two right formulas may differ by on moderate numbers.

Those of the spec differ by less than 2^5; one that computes in float64 is off by 2^11.
"""


def check_same_parameters(name: str, rule: Rule, usual: Rule) -> None:
    """Raise ValueError unless a usual formula of the op of this name takes what its rule takes."""
    expected, actual = ([(p.name, p.kind, p.default) for p in _parameters(r)] for r in (rule, usual))
    if actual != expected:
        raise ValueError(
            f"op {name!r}: its usual formula {usual.__name__!r} takes {inspect.signature(usual)}; "
            f"it must take the same parameters as the rule: {inspect.signature(rule)}"
        )


def check_agreement(
    op: str, rules: Sequence[Rule], call: Call, domains: Sequence[Domain], names: Sequence[str], seed: int
) -> None:
    """Raise ValueError unless rules agree in longdouble: value and gradients, for moderate numbers.

    Args:
        op: the name of the op.
        rules: its rule, then its usual ones.
        call: shapes and keywords of the call to compare them on.
        domains: the domain of each array.
        names: the name of each array.
        seed: chooses the numbers.
    """
    inputs = [fill_moderately(domains[i], s, seed + 5 * i) for i, s in enumerate(call.shapes)]
    g = fill_moderately(Interval(), np.shape(rules[0](*inputs, **call.keywords)[0]), seed + 3)
    expected, *others = (_compute_parts(rule, inputs, names, call, g) for rule in rules)
    for rule, parts in zip(rules[1:], others, strict=True):
        for what, part in parts.items():
            where = f"op {op!r}: by its usual formula {rule.__name__!r} the {what}"
            _check_part(where, part, expected[what], call)


def _parameters(rule: Rule) -> Sequence[inspect.Parameter]:
    return list(inspect.signature(rule).parameters.values())


def fill_moderately(domain: Domain, shape: Any, seed: int) -> Array:
    """Return an array of the domain that looks random: its numbers are moderate, and of any sign."""
    if isinstance(shape, IntegerArrayBelow):
        return shape.pick(_spread_evenly(shape.shape, seed) * 1009)
    shares = _spread_evenly(shape, seed)
    if not isinstance(domain, Interval):
        return shares < 1 / 2
    low, high = domain.low, domain.high
    if np.isfinite(high - low):
        return low + (high - low) * (1 + 7 * shares) / 9
    distances = _LEAST_DISTANCE + (_LARGEST_DISTANCE - _LEAST_DISTANCE) * shares
    if np.isfinite(low) or np.isfinite(high):
        return low + distances if np.isfinite(low) else high - distances
    return np.where(_spread_evenly(shape, seed + 1) < 1 / 2, -distances, distances)


def _spread_evenly(shape: tuple[int, ...], seed: int) -> Array:
    """Return numbers between 0 and 1 that no formula treats alike: a golden section apart (Weyl, 1916)."""
    n = math.prod(shape)
    section = (np.sqrt(np.longdouble(5)) - 1) / 2
    return np.reshape(np.arange(1 + 89 * seed, 1 + 89 * seed + n) * section % 1, shape)


def _compute_parts(
    rule: Rule, inputs: list[Array], names: Sequence[str], call: Call, g: Array
) -> dict[str, Array]:
    """Return the value and the gradients, by what a message calls them."""
    value, pullbacks = rule(*inputs, **call.keywords)
    parts = {"value": np.asarray(value)}
    gradients: Any = pullbacks(g) if callable(pullbacks) else [p and p(g) for p in pullbacks or ()]
    for x, name, d in zip(inputs, names, gradients, strict=pullbacks is not None):
        if d is not None:
            parts[f"gradient of {name}"] = unbroadcast(np.asarray(d), x.shape)
    return parts


def _check_part(where: str, got: Array, expected: Array, call: Call) -> None:
    """Raise ValueError unless a part of a result is what it should be."""
    called = f"in a call with shapes {call.shapes} and keywords {call.keywords}"
    if (got.shape, got.dtype) != (expected.shape, expected.dtype):
        raise ValueError(
            f"{where} has shape {got.shape} and dtype {got.dtype}, by its rule {expected.shape} and "
            f"{expected.dtype} {called}; they must be the same"
        )
    if got.dtype.kind in "biu":
        allowed, error = 0.0, np.asarray(got != expected)
    else:
        allowed = float(_DIGITS_LOST * np.finfo(got.dtype).eps * np.max(np.abs(expected), initial=1))
        error = np.asarray(np.abs(got - expected))
    if not np.all(error <= allowed):
        at = tuple(map(int, np.argwhere(~(error <= allowed))[0]))
        raise ValueError(
            f"{where} at {at} is {got[at]}, by its rule {expected[at]} {called}; "
            f"on moderate numbers they must agree to within {allowed:.2g}"
        )
