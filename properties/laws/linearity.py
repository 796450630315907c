"""Is the pullback linear in the cotangent?

Whatever the op and wherever its kinks, a pullback is a matrix that the cotangent is multiplied by. So it may not clip the
cotangent, drop what is small or depend on how large the rest is; and each side of an identity is the backend's own, so
that this law needs no convention at kinks.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, exact_dtype
from gradspec.properties.cases.evaluate import run_spec, value_and_pullback
from gradspec.properties.judging.judge import ComputationJudge, Convert, Judgement, combine_judgements
from gradspec.reference.rule import Array

Gradients = dict[str, Array]
LinearCombination = list[tuple[float, Array]]
"""A linear combination of cotangents: factors and terms."""


def pullback_is_linear_in_the_cotangent(backend: Backend, case: Case) -> Judgement:
    """Scaled cotangents give scaled gradients, sums of cotangents sums of gradients, and zero gives exactly zero."""
    _, pull = value_and_pullback(backend, case)
    once = pull(case.cotangent)
    zero = np.zeros_like(case.cotangent)
    # Not first: a pullback that remembered this answer would be linear, being 0.
    judgements = [_judge_zero(case, zero, pull(zero))]
    for name, whole, terms in iterate_combinations(case):
        of_terms = [(c, once if g is case.cotangent else pull(g)) for c, g in terms]
        judgements.append(_judge_identity(case, name, pull(whole), of_terms, terms))
    return combine_judgements(judgements)


def iterate_combinations(case: Case) -> Iterator[tuple[str, Array, LinearCombination]]:
    """Cotangents in two ways, each by name: as one array, and as a sum that is the same without any rounding."""
    g = case.cotangent
    scale = g.dtype.type(2**6 if case.dtype == "float16" else 2**20)
    yield "scaled up", g * scale, [(float(scale), g)]
    yield "scaled down and negated", -g / scale, [(-1 / float(scale), g)]
    other = np.roll(g, 1)
    if np.array_equal(_widen(case, g) + _widen(case, other), _widen(case, g + other)):
        yield "added to another", g + other, [(1, g), (1, other)]
    if g.size > 1:
        odd = np.arange(g.size).reshape(g.shape) % 2 == 1
        large, small = (np.where(part, x, 0).astype(g.dtype) for part, x in ((odd, g * scale), (~odd, g)))
        yield "with some of it scaled up", large + small, [(1, large), (1, small)]


def _judge_zero(case: Case, zero: Array, got: Gradients) -> Judgement:
    """Exactly zero; NaN only where numbers on the way overflow at this precision.

    A cotangent of zero may hide these numbers from the spec: what multiplies the cotangent is met with one of ones.
    """
    for name, d in got.items():
        if np.any(np.isfinite(d) & (d != 0)):
            return Judgement("disagree", f"a cotangent of zero gives a gradient of {name} of {d}")
    nothing = {name: np.zeros_like(d) for name, d in got.items()}
    return _judge_identity(case, "of zero", got, [(1, nothing)], [(1, zero), (0, np.ones_like(zero))])


def _judge_identity(
    case: Case, how: str, got: Gradients, of_terms: list[tuple[float, Gradients]], terms: LinearCombination
) -> Judgement:
    """Both sides of an identity may be off by what the spec is, when it adds up the terms at this precision."""
    measure = ComputationJudge(case.dtype, lambda convert: _combine_spec_gradients(case, convert, terms))
    judged = []
    for name, d in got.items():
        expected = sum(
            (c * _widen(case, ds[name]) for c, ds in of_terms), start=np.zeros((), exact_dtype(case.dtype))
        )
        what = f"gradient of {name} for the cotangent {how}"
        judged.append(measure.judge(what, d, lambda s, n=name: s[n], expected=expected))  # type: ignore[misc]
    return combine_judgements(judged)


def _combine_spec_gradients(case: Case, convert: Convert, terms: LinearCombination) -> Gradients:
    """The linear combination of the spec's gradients for these cotangents."""
    parts = [(c, run_spec(replace(case, cotangent=g).map_float_arrays(convert)).gradients) for c, g in terms]
    return {
        name: sum((c * ds[name] for c, ds in parts[1:]), start=parts[0][0] * d)
        for name, d in parts[0][1].items()
    }


def _widen(case: Case, x: Array) -> Array:
    return x.astype(exact_dtype(case.dtype))
