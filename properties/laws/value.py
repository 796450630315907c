"""Is the value right?"""

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import forward, value_and_pullback
from gradspec.properties.judging.judge import Judge, Judgement, combine_judgements


def value_agrees(backend: Backend, case: Case) -> Judgement:
    """The value is the spec's, computed without and with the vjp."""
    values, judge = [forward(backend, case)], Judge(case)
    if case.differentiable_inputs:
        values.append(value_and_pullback(backend, case)[0])
    return combine_judgements([judge.judge_value(value) for value in values])
