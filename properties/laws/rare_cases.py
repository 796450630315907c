"""Are value and gradients right in cases that are seldom drawn?

Numbers far from zero beside how far they differ, numbers of every size, keywords at their ends or given as
NumPy numbers, cotangents that are uniform or mostly zero, axes that are all equally long, lengths that tiles
leave behind, more elements than 16 bits can index, sums longer than 16 bits can hold and ties more than they
can count: `cases.rare` has them.

Of a call with NumPy numbers in place of Python's the backend may refuse any: to raise misleads nobody. Where
more elements are tied than can be moved off the kink one by one, only what is the same on all its sides is
asked for: the sum of all gradients, and that none of their signs is another.

Does not see: how many ties share a gradient, and how, if there are many; which of two equally rare cases that
meet; and what depends on more than 66,049 elements along an axis.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of, exact_dtype
from gradspec.properties.cases.evaluate import Result, differentiate, forward, run_spec
from gradspec.properties.cases.rare import LARGE_SIZE, PERIOD
from gradspec.properties.judging.formula_samples import ConvertToPrecision
from gradspec.properties.judging.judge import (
    ALLOWED_FACTOR,
    ComputationJudge,
    Judge,
    Judgement,
    combine_judgements,
    ulp,
)
from gradspec.properties.laws.extremes import extremes_go_where_the_spec_says
from gradspec.reference import Op
from gradspec.reference.arrays import unbroadcast
from gradspec.reference.rule import Array


def rare_cases_agree(backend: Backend, case: Case) -> Judgement:
    """Judge whether value and gradients of a rare case are the spec's."""
    if not has_numpy_numbers(case):
        return _judge(backend, case)
    try:
        forward(backend, case)
    except NotImplementedError:
        raise  # declined, with numbers of Python or without
    except Exception:
        return Judgement("agree", "the backend refuses NumPy numbers as metadata", informative=False)
    return _judge(backend, case)


def has_numpy_numbers(case: Case) -> bool:
    """Return whether a keyword is a NumPy number, or has one in it."""
    return any(map(_holds_numpy_number, case.keywords.values()))


def _holds_numpy_number(value: Any) -> bool:
    parts = (
        value
        if isinstance(value, tuple)
        else (value.start, value.stop, value.step)
        if isinstance(value, slice)
        else ()
    )
    return isinstance(value, np.generic) or any(map(_holds_numpy_number, parts))


def _judge(backend: Backend, case: Case) -> Judgement:
    if case.op.elementwise and all(x.shape == (LARGE_SIZE,) for x in (*case.inputs, case.cotangent)):
        return _judge_by_period(backend, case)
    judge = Judge(case)
    exact = judge.exact
    if not all(np.all(np.isfinite(x)) for x in (exact.value, *exact.gradients.values())):
        return extremes_go_where_the_spec_says(backend, case)
    if max(x.size for x in case.inputs) >= LARGE_SIZE:
        return _judge_long_sums_of_large_case(backend, case, judge)
    judgements = [judge.judge_value(forward(backend, case))]
    if case.differentiable_inputs:
        result = differentiate(backend, case)
        judgements.append(judge.judge_value(result.value))
        if case.op.kinks and not case.is_smooth:
            judgements.append(_judge_shares(case, result.gradients))
        elif case.dtype == "float16" and not callable(case.op.rule(*case.inputs, **case.keywords)[1]):
            judgements += [_judge_alone(case, i, result.gradients) for i in case.differentiable_inputs]
        else:
            judgements.append(judge.judge_gradients(result.gradients))
    return combine_judgements(judgements)


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
        cancelled = np.sqrt(n) * judge.measure_noise_of_any_formula(part, 2) / eps
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


def _judge_alone(case: Case, i: int, gradients: dict[str, Array]) -> Judgement:
    """Judge the gradient of the i-th array by its own pullback.

    In float16 a number on the way may nearly vanish, and every result may then be off by what underflow took
    from it. What the pullbacks of the other arrays meet is no excuse for this one.
    """

    def compute(convert: ConvertToPrecision, op: Op = case.op) -> Array:
        converted = case.map_float_arrays(convert)
        pullbacks: Any = op.rule(*converted.inputs, **case.keywords)[1]
        x, d = converted.inputs[i], pullbacks[i](converted.cotangent)
        return d if d.shape == x.shape else unbroadcast(d, x.shape)

    name = case.op.argument_name(i)
    judge = ComputationJudge(case.dtype, compute, usual=[partial(compute, op=f) for f in case.op.usual_forms])
    return judge.judge(f"gradient of {name}", gradients[name], lambda d: d)


def _judge_by_period(backend: Backend, case: Case) -> Judgement:
    """Judge an elementwise op on arrays that repeat: in each place of a period, the result furthest off."""
    first = replace(case, inputs=tuple(x[:PERIOD] for x in case.inputs), cotangent=case.cotangent[:PERIOD])
    judge = Judge(first)

    def find_worst(got: Array, exact: Array) -> Array:
        if got.shape != (LARGE_SIZE,):
            raise TypeError(f"a result has shape {got.shape}, expected {(LARGE_SIZE,)}")
        rows = np.resize(got, (-(-LARGE_SIZE // PERIOD), PERIOD))
        rows[-1, LARGE_SIZE % PERIOD :] = rows[0, LARGE_SIZE % PERIOD :]
        off = np.abs(rows.astype(exact.dtype) - exact) if exact.dtype.kind == "f" else rows != exact
        return rows[np.argmax(np.where(np.isnan(off), np.inf, off), axis=0), np.arange(PERIOD)]

    judgements = [judge.judge_value(find_worst(forward(backend, case), judge.exact.value))]
    if case.differentiable_inputs:
        for name, d in differentiate(backend, case).gradients.items():
            judgements.append(judge.judge_gradient(name, find_worst(d, judge.exact.gradients[name])))
    return combine_judgements(judgements)


def _judge_shares(case: Case, gradients: dict[str, Array]) -> Judgement:
    """Judge whether the gradients of ties sum to the cotangent, each of them of no other sign."""
    wide = exact_dtype(case.dtype)
    shares = np.concatenate([d.astype(wide).reshape(-1) for d in gradients.values()])
    exact = np.concatenate([d.astype(wide).reshape(-1) for d in run_spec_exactly(case)])
    allowed = ALLOWED_FACTOR * np.sum(ulp(shares, next(iter(gradients.values())).dtype))
    off = np.abs(np.sum(shares) - np.sum(exact))
    if not off <= allowed:
        return Judgement(
            "disagree",
            f"the gradients of all ties sum to {float(np.sum(shares)):.6g}, expected "
            f"{float(np.sum(exact)):.6g}, allowed to be off by {float(allowed):.3g}",
        )
    return Judgement("agree", worst=float(off / allowed))


def run_spec_exactly(case: Case) -> list[Array]:
    """Return the spec's gradients in higher precision."""
    return [*run_spec(case.map_float_arrays(lambda x: x.astype(exact_dtype(case.dtype)))).gradients.values()]
