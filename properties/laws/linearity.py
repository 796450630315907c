"""Is the pullback linear in the cotangent?

Whatever the op and wherever its kinks, a pullback multiplies the cotangent by a matrix. So it may not clip
the cotangent, drop its small elements or let one element depend on the size of the others. Both sides of each
identity are the backend's own, so this law needs no convention at kinks.

Does not see: a pullback that is linear but wrong, such as twice the gradient; or what changes only where
cotangents are larger than about 2^20 or smaller than about 2^-20 (2^6 and 2^-6 in float16).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, exact_dtype
from gradspec.properties.cases.evaluate import run_spec, value_and_pullback
from gradspec.properties.judging.formula_samples import ConvertToPrecision
from gradspec.properties.judging.judge import ComputationJudge, Judgement, combine_judgements
from gradspec.properties.judging.judgement import Severity
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"

Gradients = dict[str, Array]
LinearCombination = list[tuple[float, Array]]
"""A linear combination of cotangents: pairs of a factor and a cotangent."""


def pullback_is_linear_in_the_cotangent(backend: Backend, case: Case) -> Judgement:
    """Judge whether scaled cotangents give scaled gradients, sums give sums, and zero gives exactly zero."""
    _, pull = value_and_pullback(backend, case)
    once = pull(case.cotangent)
    zero = np.zeros_like(case.cotangent)
    # Not the first call: a pullback that always repeated this answer, 0, would be linear.
    judgements = [_judge_zero(case, zero, pull(zero))]
    for name, whole, terms in iterate_combinations(case):
        of_terms = [(c, once if g is case.cotangent else pull(g)) for c, g in terms]
        judgement = _judge_combination(case, name, pull(whole), of_terms, terms)
        judgements.append(replace(judgement, case=replace(case, cotangent=np.asarray(whole))))
    return combine_judgements(judgements)


def iterate_combinations(case: Case) -> Iterator[tuple[str, Array, LinearCombination]]:
    """Yield cotangents by name, each as one array and as a linear combination that is exactly equal to it."""
    g = case.cotangent
    scale = g.dtype.type(2**6 if case.dtype == "float16" else 2**20)
    yield "scaled up", g * scale, [(float(scale), g)]
    yield "scaled down and negated", -g / scale, [(-1 / float(scale), g)]
    other = np.roll(g, 1)
    if np.array_equal(_widen(case, g) + _widen(case, other), _widen(case, g + other)):
        yield "added to another", g + other, [(1, g), (1, other)]
    if g.size > 1:
        is_odd = np.arange(g.size).reshape(g.shape) % 2 == 1
        parts = (is_odd, g * scale), (~is_odd, g)
        large, small = (np.where(part, x, 0).astype(g.dtype) for part, x in parts)
        yield "with some of it scaled up", large + small, [(1, large), (1, small)]


def _judge_zero(case: Case, zero: Array, got: Gradients) -> Judgement:
    """Judge whether a cotangent of zero gives exactly zero, or NaN where intermediate numbers overflow.

    A cotangent of zero may hide these numbers from the spec; a cotangent of ones, with a factor of 0, shows
    what the cotangent is multiplied by.
    """
    for name, d in got.items():
        if np.any(np.isfinite(d) & (d != 0)):
            reason = f"for a cotangent of zero the gradient of {name} is {d}"
            return Judgement("disagree", reason, case=replace(case, cotangent=zero))
    zeros = {name: np.zeros_like(d) for name, d in got.items()}
    return _judge_combination(case, "of zero", got, [(1, zeros)], [(1, zero), (0, np.ones_like(zero))])


def _judge_combination(
    case: Case, how: str, got: Gradients, of_terms: list[tuple[float, Gradients]], terms: LinearCombination
) -> Judgement:
    """Judge an identity: each side may be off by what the spec is, adding up the terms at this precision."""
    measure, *usual = [
        lambda convert, form=form: _combine_spec_gradients(replace(case, op=form), convert, terms)
        for form in (case.op, *case.op.usual_forms)
    ]
    judge = ComputationJudge(case.dtype, measure, usual=usual)
    judgements = []
    for name, d in got.items():
        zero = np.zeros((), exact_dtype(case.dtype))
        expected = sum((c * _widen(case, ds[name]) for c, ds in of_terms), start=zero)
        what = f"gradient of {name} for the cotangent {how}"
        judgements.append(judge.judge(what, d, lambda s, n=name: s[n], expected=expected))  # type: ignore[misc]
    return combine_judgements(judgements)


def _combine_spec_gradients(case: Case, convert: ConvertToPrecision, terms: LinearCombination) -> Gradients:
    """Return the linear combination of the spec's gradients for these cotangents."""
    parts = [(c, run_spec(replace(case, cotangent=g).map_float_arrays(convert)).gradients) for c, g in terms]
    return {
        name: sum((c * ds[name] for c, ds in parts[1:]), start=parts[0][0] * d)
        for name, d in parts[0][1].items()
    }


def _widen(case: Case, x: Array) -> Array:
    """Return x in the dtype that counts as exact for the case."""
    return x.astype(exact_dtype(case.dtype))
