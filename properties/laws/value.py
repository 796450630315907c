"""Is the value right?

Does not see: gradients, the dtype of the value, infinities and NaN, other layouts than C order, or what an op
does with a keyword that is passed its default (the property leaves those out).
"""

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import forward, value_and_pullback
from gradspec.properties.judging.judge import Judge, Judgement, combine_judgements
from gradspec.properties.judging.judgement import Severity

SEVERITY: Severity = "wrong"


def value_agrees(backend: Backend, case: Case) -> Judgement:
    """Judge whether the value is the spec's, computed without the vjp and with it."""
    values, judge = [forward(backend, case)], Judge(case)
    if case.differentiable_inputs:
        values.append(value_and_pullback(backend, case)[0])
    return combine_judgements([judge.judge_value(value) for value in values])
