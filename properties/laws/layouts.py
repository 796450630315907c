"""Does it matter how inputs and cotangents lie in memory?"""

from gradspec.backends import Backend
from gradspec.properties.case import Case, outcome
from gradspec.properties.judging.judge import Judge, Judgement, combined


def layout_makes_no_difference(backend: Backend, case: Case) -> Judgement:
    """Value and gradients are the spec's, in whatever layouts the backend gets the inputs and the cotangent."""
    judge, result = Judge(case), outcome(backend, case)
    return combined([judge.value(result.value), judge.gradients(result.gradients)])
