"""Are value and gradients right in cases that are seldom drawn?

Numbers far from zero beside how far they differ, numbers of every size, keywords at their ends or given as
NumPy numbers, cotangents that are uniform or mostly zero, axes that are all equally long, one infinity among
ordinary numbers or cotangents: `cases.rare` has them.

Of a call with NumPy numbers in place of Python's the backend may refuse any: to raise misleads nobody.

Does not see: what takes two rare things at once; how ties share a gradient.
"""

from functools import partial
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import differentiate, forward
from gradspec.properties.judging.formula_samples import ConvertToPrecision
from gradspec.properties.judging.judge import ComputationJudge, Judge, Judgement, combine_judgements
from gradspec.properties.judging.judgement import Severity
from gradspec.properties.laws.extremes import (
    extremes_go_where_the_spec_says,
    gradients_beside_infinite_cotangents_agree,
)
from gradspec.reference import Op
from gradspec.reference.arrays import unbroadcast
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"


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


def keywords_at_their_ends_agree(backend: Backend, case: Case) -> Judgement:
    """Judge the same of a call in which a keyword is at the end of what it may be."""
    return rare_cases_agree(backend, case)


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
    if not np.all(np.isfinite(case.cotangent)):
        return gradients_beside_infinite_cotangents_agree(backend, case)
    judge = Judge(case)
    exact = judge.exact
    if not all(np.all(np.isfinite(x)) for x in (*case.inputs, exact.value, *exact.gradients.values())):
        return extremes_go_where_the_spec_says(backend, case)
    return judge_calls(backend, case, judge)


def judge_calls(backend: Backend, case: Case, judge: Judge) -> Judgement:
    """Judge the value, computed without the vjp and with it, and the gradients."""
    judgements = [judge.judge_value(forward(backend, case))]
    if case.differentiable_inputs:
        result = differentiate(backend, case)
        judgements.append(judge.judge_value(result.value))
        if case.dtype == "float16" and not callable(case.op.rule(*case.inputs, **case.keywords)[1]):
            judgements += [_judge_alone(case, i, result.gradients) for i in case.differentiable_inputs]
        else:
            judgements.append(judge.judge_gradients(result.gradients))
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
