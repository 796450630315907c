"""Is every gradient right, for a cotangent that is random and never uniform?"""

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.case import Case, differentiate, linearized
from gradspec.properties.judging.judge import Judge, Judgement


def every_gradient_agrees(backend: Backend, case: Case) -> Judgement:
    """The gradient of each argument is the spec's: of an op without pullbacks zero, if the backend gives any."""
    if case.op.flat:
        return _is_flat(backend, case)
    return Judge(case).gradients(differentiate(backend, case).gradients)


def _is_flat(backend: Backend, case: Case) -> Judgement:
    arrays, g = case.for_backend(backend)
    try:
        gradients = linearized(backend, case, arrays, range(len(arrays)))[1](g)
    except Exception:  # refused: nobody is misled
        return Judgement("agree")
    for i, d in enumerate(map(backend.to_numpy, gradients)):
        if np.any(d != 0):
            reason = f"gradient of {case.op.argument(i)} is {d.tolist()}, not 0: {case.op.name} is flat"
            return Judgement("disagree", reason)
    return Judgement("agree")
