"""Are value and gradients right in cases of many elements?

Lengths that tiles leave behind, more elements than 16 bits can index, sums longer than 16 bits can hold and
more ties than they can count: `cases.many_elements` has them.

Where more elements are tied than can be moved off the kink one by one, only what is the same on all its sides
is asked for: the sum of all gradients, and that none of their signs is another.

Does not see: how many ties share a gradient, and how, if there are many; and what depends on more than 66,049
elements along an axis.
"""

from collections.abc import Callable
from dataclasses import replace

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of, exact_dtype
from gradspec.properties.cases.evaluate import Result, differentiate, forward, run_spec
from gradspec.properties.cases.many_elements import LARGE_SIZE, PERIOD
from gradspec.properties.cases.repetition import get_bits
from gradspec.properties.judging.attempt import WrongKindError
from gradspec.properties.judging.judge import ALLOWED_FACTOR, Judge, Judgement, combine_judgements, ulp
from gradspec.properties.judging.judgement import Severity
from gradspec.properties.laws.rare_cases import judge_calls
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"


def cases_of_many_elements_agree(backend: Backend, case: Case) -> Judgement:
    """Judge whether value and gradients of a case of many elements are the spec's."""
    if case.op.elementwise and all(map(_repeats, (*case.inputs, case.cotangent))):
        return _judge_by_period(backend, case)
    judge = Judge(case)
    if max(x.size for x in case.inputs) >= LARGE_SIZE:
        return _judge_long_sums_of_large_case(backend, case, judge)
    if case.op.kinks and case.op.differentiable and not case.is_smooth:
        value = judge.judge_value(forward(backend, case))
        return combine_judgements([value, _judge_shares(case, differentiate(backend, case).gradients)])
    return judge_calls(backend, case, judge)


def _repeats(x: Array) -> bool:
    """Return whether an array is a large one of one axis that repeats after `PERIOD` elements."""
    if x.shape != (LARGE_SIZE,):
        return False
    bits = get_bits(x)
    return np.array_equal(bits[PERIOD:], bits[:-PERIOD])


def _judge_long_sums_of_large_case(backend: Backend, case: Case, judge: Judge) -> Judgement:
    """Judge a large case of an op that combines elements.

    A sum of n numbers of one sign, one after the other, is off by up to n / 2 units in the last place, and
    always in the same direction where they are alike. So much is allowed of every result: a number of it has
    its share of all numbers, or those along an axis. Where sums cancel, the noise of the formula that has the
    most tells how large they were: it is that of a random walk, n / 2 units in place of sqrt(n) / 2.
    """
    eps = float(ml_dtypes.finfo(dtype_of(case.dtype)).eps)
    longest = max(max(x.shape) for x in case.inputs if x.ndim)
    n_all = sum(x.size for x in case.inputs)

    def judge_part(what: str, got: Array, part: Callable[[Result], Array]) -> Judgement:
        exact = part(judge.exact)
        n = max(longest, n_all / exact.size)
        if exact.dtype.kind in "biu":
            return judge.judge(what, got, part)
        cancelled = np.sqrt(n) * judge.measure_noise_of_any_formula(part, 1) / eps
        scale = np.maximum(n / 2 * np.abs(exact), cancelled) / ALLOWED_FACTOR
        return judge.judge(what, got, part, scale=scale)

    judgements = [judge_part("value", forward(backend, case), lambda r: r.value)]
    if case.differentiable_inputs:
        gradients = differentiate(backend, case).gradients
        if case.op.kinks and not case.is_smooth:
            return combine_judgements([*judgements, _judge_shares(case, gradients)])
        judgements += [
            judge_part(f"gradient of {n}", d, lambda r, n=n: r.gradients[n])  # type: ignore[misc]
            for n, d in gradients.items()
        ]
    return combine_judgements(judgements)


def _judge_by_period(backend: Backend, case: Case) -> Judgement:
    """Judge an elementwise op on arrays that repeat: in each place of a period, the result furthest off."""
    first = replace(case, inputs=tuple(x[:PERIOD] for x in case.inputs), cotangent=case.cotangent[:PERIOD])
    judge = Judge(first)

    def find_worst(got: Array, exact: Array) -> Array:
        if got.shape != (LARGE_SIZE,):
            raise WrongKindError(f"a result has shape {got.shape}, expected {(LARGE_SIZE,)}")
        rows = np.resize(got, (-(-LARGE_SIZE // PERIOD), PERIOD))
        rows[-1, LARGE_SIZE % PERIOD :] = rows[0, LARGE_SIZE % PERIOD :]
        if np.all((rows == rows[0]) | ((rows != rows) & (rows[0] != rows[0]))):
            return rows[0]
        off = np.abs(rows.astype(exact.dtype) - exact) if exact.dtype.kind == "f" else rows != exact
        return rows[np.argmax(np.where(np.isnan(off), np.inf, off), axis=0), np.arange(PERIOD)]

    judgements = [judge.judge_value(find_worst(forward(backend, case), judge.exact.value))]
    if case.differentiable_inputs:
        for name, d in differentiate(backend, case).gradients.items():
            judgements.append(judge.judge_gradient(name, find_worst(d, judge.exact.gradients[name])))
    return combine_judgements(judgements)


def _judge_shares(case: Case, gradients: dict[str, Array]) -> Judgement:
    """Judge whether the gradients of ties sum to what the spec's do, and none has the other sign."""
    wide = exact_dtype(case.dtype)
    shares = np.concatenate([d.astype(wide).reshape(-1) for d in gradients.values()])
    exact = np.concatenate([d.astype(wide).reshape(-1) for d in run_spec_exactly(case)])
    allowed = ALLOWED_FACTOR * np.sum(ulp(shares, next(iter(gradients.values())).dtype))
    off = np.abs(np.sum(shares) - np.sum(exact))
    if np.any(shares * np.sum(exact) < 0):
        return Judgement("disagree", "a gradient at a tie has the opposite sign of all cotangents")
    if not off <= allowed:
        return Judgement(
            "disagree",
            f"the gradients of all ties sum to {float(np.sum(shares)):.6g}, expected "
            f"{float(np.sum(exact)):.6g}, off by {float(off):.3g} ({float(allowed):.3g} is allowed)",
        )
    return Judgement("agree", worst=float(off / allowed))


def run_spec_exactly(case: Case) -> list[Array]:
    """Return the spec's gradients in higher precision."""
    return [*run_spec(case.map_float_arrays(lambda x: x.astype(exact_dtype(case.dtype)))).gradients.values()]
