"""Is the spec right?

Its pullbacks are compared with numerical differentiation, which shares no formula with them.

Does not see: a wrong value whose pullbacks belong to it, an op that is wrongly declared to have no gradient,
anything within 1/32 of a kink, extreme numbers, or how accurate the formulas are in float64 and below.
"""

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.judge import Judge, Judgement, combine_judgements
from gradspec.properties.judging.judgement import Severity
from gradspec.properties.judging.numerical_differentiation import numerical_gradient
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"

ERROR_ESTIMATE_FACTOR = 8
"""How many times its error estimate a derivative may be off.

The estimate, the difference of successive extrapolations, gives only the order of magnitude.
"""


def spec_agrees_with_numerical_differentiation(_: Backend, case: Case) -> Judgement:
    """Judge whether the spec's gradients, in longdouble, are the limits of difference quotients."""
    gradients = Judge(case).exact.gradients
    return combine_judgements(
        [
            _judge_by_differences(case, i, gradients[case.op.argument_name(i)])
            for i in case.differentiable_inputs
        ]
    )


def _judge_by_differences(case: Case, i: int, gradient: Array) -> Judgement:
    """Judge the gradient of the i-th input."""
    estimate = numerical_gradient(case, i)
    error, allowed = np.abs(gradient - estimate.derivative), ERROR_ESTIMATE_FACTOR * estimate.error
    if np.any(error > allowed):
        at = np.unravel_index(np.argmax(error - allowed), error.shape)
        return Judgement(
            "disagree",
            f"the gradient of {case.op.argument_name(i)} at {tuple(map(int, at))} is {gradient[at]:.12g}, "
            f"numerically it is {estimate.derivative[at]:.12g} within {allowed[at]:.3g}",
        )
    informative = bool(np.any(allowed < np.abs(gradient)))
    return Judgement("agree", informative=informative, worst=float(np.max(error / allowed, initial=0)))
