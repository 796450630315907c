"""Is the value right?"""

from gradspec.backends import Backend
from gradspec.properties.case import Case, forward
from gradspec.properties.judging.judge import Judge, Judgement


def value_agrees(backend: Backend, case: Case) -> Judgement:
    """The value is the spec's, computed without and with the vjp."""
    return Judge(case).value(forward(backend, case))
