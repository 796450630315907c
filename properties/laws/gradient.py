"""Is every gradient right, for a cotangent that is random and never uniform?

Does not see: the value, the dtype of a gradient, anything within 1/32 of a kink, extreme numbers, second
derivatives, or what a second call of the pullback gives.
"""

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import call_backend_vjp, differentiate, forward
from gradspec.properties.judging.judge import Judge, Judgement
from gradspec.properties.judging.judgement import Severity

SEVERITY: Severity = "wrong"


def every_gradient_agrees(backend: Backend, case: Case) -> Judgement:
    """Judge whether the gradient of each argument is the spec's.

    The gradient of an op without pullbacks must be zero, if the backend gives any.
    """
    if case.op.has_zero_gradient:
        return _judge_zero_gradient(backend, case)
    return Judge(case).judge_gradients(differentiate(backend, case).gradients)


def _judge_zero_gradient(backend: Backend, case: Case) -> Judgement:
    """Judge whether the gradients of an op that is flat are zero, or refused."""
    arrays, g = case.to_backend_arrays(backend)
    try:
        gradients = call_backend_vjp(backend, case, arrays, range(len(arrays)))[1](g)
    except Exception as error:
        # A refusal misleads nobody, but to decline the value as well says nothing.
        if isinstance(error, NotImplementedError):
            forward(backend, case)
        return Judgement("agree")
    for i, d in enumerate(map(backend.to_numpy, gradients)):
        if np.any(d != 0):
            reason = (
                f"the gradient of {case.op.argument_name(i)} is {d.tolist()}, not 0: {case.op.name} is flat"
            )
            return Judgement("disagree", reason)
    return Judgement("agree")
