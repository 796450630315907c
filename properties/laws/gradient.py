"""Is every gradient right, for a cotangent that is random and never uniform?"""

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import call_backend_vjp, differentiate
from gradspec.properties.judging.judge import Judge, Judgement


def every_gradient_agrees(backend: Backend, case: Case) -> Judgement:
    """The gradient of each argument is the spec's: of an op without pullbacks zero, if the backend gives any."""
    if case.op.has_zero_gradient:
        return _judge_flat(backend, case)
    return Judge(case).judge_gradients(differentiate(backend, case).gradients)


def _judge_flat(backend: Backend, case: Case) -> Judgement:
    arrays, g = case.to_backend_arrays(backend)
    try:
        gradients = call_backend_vjp(backend, case, arrays, range(len(arrays)))[1](g)
    except Exception:  # refused: nobody is misled
        return Judgement("agree")
    for i, d in enumerate(map(backend.to_numpy, gradients)):
        if np.any(d != 0):
            reason = f"gradient of {case.op.argument_name(i)} is {d.tolist()}, not 0: {case.op.name} is flat"
            return Judgement("disagree", reason)
    return Judgement("agree")
