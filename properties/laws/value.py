"""Is the value right?"""

from gradspec.backends import Backend
from gradspec.properties.case import Case, forward, pullback_of
from gradspec.properties.judging.judge import Judge, Judgement, combined


def value_agrees(backend: Backend, case: Case) -> Judgement:
    """The value is the spec's, computed without and with the vjp."""
    values, judge = [forward(backend, case)], Judge(case)
    if case.differentiable:
        values.append(pullback_of(backend, case)[0])
    return combined([judge.value(value) for value in values])
