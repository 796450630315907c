"""Does bad input raise? Shapes that do not fit, axes out of range or named twice, indices that are none, wrong dtypes.

The spec is the measure: where it raises, the backend must raise as well, be it at the call, in the pullback or when
arrays are made; what error is the backend's affair. Where the spec has an answer the backend must have one, so that a
backend that always raises does not pass. Nothing broadcasts silently: a bias of length 1, a cotangent of shape (1,).
"""

from gradspec.backends import Backend
from gradspec.properties.case import Case, outcome
from gradspec.properties.judging.judge import SPEC, Judgement


def what_the_spec_refuses_raises(backend: Backend, case: Case) -> Judgement:
    """The backend raises where the spec raises, and only there."""
    refusal, error = _error(SPEC, case), _error(backend, case)
    if refusal is None and error is not None:
        raise error
    if refusal is not None and error is None:
        return Judgement("disagree", f"nothing was raised; the spec says {type(refusal).__name__}: {refusal}")
    return Judgement("agree", informative=refusal is not None)


def _error(backend: Backend, case: Case) -> Exception | None:
    """What a call raises, with its pullback if it has one."""
    try:
        outcome(backend, case)
    except Exception as error:
        return error
    return None
