"""Numerical differentiation that shares no formula with the spec's pullbacks.

Central differences of <cotangent, value> in the widest float, extrapolated to step zero (Richardson, 1911; Ridders,
1982). The extrapolation yields an error estimate for every derivative, so no tolerance has to be guessed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.reference.domains import Interval
from gradspec.reference.rule import Array

HALVINGS = range(1, 6)  # how often h is halved: the error falls like h^12, rounding grows like 32 eps
EXTRA_HALVINGS = range(6, 14)  # and so often where that has not settled: the function bends within h
CONVERGED_ERROR = (
    1e-8  # of the derivative and of the terms of the function, far below what the spec is held to
)


@dataclass(frozen=True)
class DerivativeEstimate:
    """Derivatives and how far each may be from the truth."""

    derivative: Array
    error: Array


def numerical_gradient(case: Case, i: int) -> DerivativeEstimate:
    """The gradient of <cotangent, value> with respect to the i-th input, of its shape, in longdouble."""
    wide = case.map_float_arrays(lambda x: x.astype(np.longdouble))
    x = wide.inputs[i]
    each = np.eye(x.size, dtype=np.longdouble).reshape(x.size, *x.shape)

    def difference(h: Array) -> Array:
        """The central difference quotients along each element of the input, with steps h of its shape."""
        above, below = x + each * h, x - each * h
        width = np.sum(above - below, axis=tuple(range(1, above.ndim))).reshape(x.shape)
        return (_pair_with_cotangent(wide, i, above) - _pair_with_cotangent(wide, i, below)).reshape(
            x.shape
        ) / width

    step = _choose_first_steps(wide, i)
    sizes = [_pair_with_cotangent(wide, i, x + each * h, np.abs).reshape(x.shape) for h in (step, -step)]
    return extrapolate_to_zero_step(difference, step, 1 + np.maximum(*sizes))


def extrapolate_to_zero_step(
    difference: Callable[[Array], Array], step: Array, scale: Array
) -> DerivativeEstimate:
    """The limit of difference(h) = (f(a + h) - f(a - h)) / 2h at h = 0, elementwise over an array of steps.

    step: the first h. scale: the size of the terms of f a step away, whose rounding the differences magnify; at a they may
    all be zero. Of the triangle of extrapolations the entry is taken that differs least from the two it was made of.
    """
    rounding = 4 * np.finfo(np.longdouble).eps * scale  # f is a sum of terms of this size, each some ulps off
    row = [difference(step)]
    best, error = row[0], np.full(step.shape, np.longdouble(np.inf))
    for k in (*HALVINGS, *EXTRA_HALVINGS):
        if k in EXTRA_HALVINGS and not np.any(
            (error > CONVERGED_ERROR * (abs(best) + scale)) & np.isfinite(error)
        ):
            break
        longer = [difference(step / 2**k)]
        for j, previous in enumerate(row):
            longer.append(longer[j] + (longer[j] - previous) / (4 ** (j + 1) - 1))
            off = np.maximum(abs(longer[-1] - longer[j]), abs(longer[-1] - previous)) + rounding * 2**k / step
            best, error = np.where(off < error, longer[-1], best), np.minimum(off, error)
        row = longer
    return DerivativeEstimate(best, error)


def _pair_with_cotangent(
    case: Case, i: int, xs: Array, transform: Callable[[Array], Array] = np.asarray
) -> Array:
    """<cotangent, value> for each of the arrays `xs`, stacked on a first axis, in place of the i-th input.

    of: what is done to its terms before they are added up.
    """
    if case.op.elementwise:  # then all of them are one call, with a further axis to broadcast over
        x = case.inputs[i]
        stacked = xs.reshape(len(xs), *(1,) * (case.cotangent.ndim - x.ndim), *x.shape)
        terms = transform(case.cotangent * _compute_value(case, i, stacked))
        return np.asarray(np.sum(terms, axis=tuple(range(1, terms.ndim))))
    return np.array(
        [np.sum(transform(case.cotangent * _compute_value(case, i, x))) for x in xs], np.longdouble
    )


def _compute_value(case: Case, i: int, x: Array) -> Array:
    return np.asarray(case.op.rule(*case.with_input(i, x).inputs, **case.keywords)[0])


def _choose_first_steps(case: Case, i: int) -> Array:
    """For each element a step that stays inside the domain and short of the next kink."""
    x = case.inputs[i]
    room = np.full(x.shape, np.longdouble(1) / 16)
    domain = case.op.domain(i)
    assert isinstance(domain, Interval)
    for edge in (domain.low, domain.high, *domain.hole):
        if np.isfinite(edge):
            room = np.minimum(room, np.abs(x - edge) / 4)
    if case.op.kinks is not None:
        room = np.minimum(room, case.op.kinks(*case.inputs, **case.keywords)[i] / 4)
    return np.asarray(room)
