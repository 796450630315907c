"""Is every gradient right, for a cotangent that is random and never uniform?"""

from gradspec.backends import Backend
from gradspec.properties.case import Case, differentiate
from gradspec.properties.judging.judge import Judge, Judgement


def every_gradient_agrees(backend: Backend, case: Case) -> Judgement:
    """The gradient of each argument is the spec's."""
    return Judge(case).gradients(differentiate(backend, case).gradients)
