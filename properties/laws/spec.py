"""Is the spec right? Its pullbacks against numerical differentiation, which shares no formula with them."""

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.case import Case
from gradspec.properties.judging.judge import Judge, Judgement, combined
from gradspec.properties.judging.oracle import numerical_gradient
from gradspec.reference.tape import Array

SAFETY = 8  # of the error estimate, which is the difference of successive extrapolations and so an order of magnitude


def spec_agrees_with_numerical_differentiation(_: Backend, case: Case) -> Judgement:
    """The spec's gradients in longdouble are the limits of difference quotients, within their error."""
    exact = Judge(case).exact
    return combined([_compared(case, i, exact.gradients[case.op.argument(i)]) for i in case.differentiable])


def _compared(case: Case, i: int, gradient: Array) -> Judgement:
    estimate = numerical_gradient(case, i)
    error, allowed = np.abs(gradient - estimate.derivative), SAFETY * estimate.error
    if np.any(error > allowed):
        at = np.unravel_index(np.argmax(error - allowed), error.shape)
        return Judgement(
            "disagree",
            f"the gradient of {case.op.argument(i)} at {tuple(map(int, at))} is {gradient[at]:.12g}, "
            f"numerically it is {estimate.derivative[at]:.12g} within {allowed[at]:.3g}",
        )
    told = bool(np.any(allowed < np.abs(gradient)))
    return Judgement("agree", informative=told, worst=float(np.max(error / allowed, initial=0)))
