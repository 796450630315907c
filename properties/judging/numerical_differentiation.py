"""Numerical differentiation that shares no formula with the spec's pullbacks.

Central differences of <cotangent, value> in the widest float, extrapolated to step zero (Richardson, 1911;
Ridders, 1982). The extrapolation yields an error estimate for every derivative, so no tolerance has to be
guessed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.reference.domains import Interval
from gradspec.reference.rule import Array

HALVINGS = range(1, 6)  # of the step h: the error falls like h^12, rounding grows like 32 eps
EXTRA_HALVINGS = range(6, 14)  # where it has not converged by then, because the function bends within h
CONVERGED_ERROR = 1e-8
"""Relative to the derivative and the terms of the function; far below what the spec is held to."""


@dataclass(frozen=True)
class DerivativeEstimate:
    """Derivatives, and how far each may be from the truth."""

    derivative: Array
    error: Array


def numerical_gradient(case: Case, i: int) -> DerivativeEstimate:
    """Return the gradient of <cotangent, value> by the i-th input, in its shape and in longdouble."""
    wide = case.map_float_arrays(lambda x: x.astype(np.longdouble))
    x = wide.inputs[i]
    each = np.eye(x.size, dtype=np.longdouble).reshape(x.size, *x.shape)

    def difference(h: Array) -> Array:
        """Return the central difference quotient along each element of the input, with its own step h."""
        above, below = x + each * h, x - each * h
        width = np.sum(above - below, axis=tuple(range(1, above.ndim))).reshape(x.shape)
        rise = _pair_with_cotangent(wide, i, above) - _pair_with_cotangent(wide, i, below)
        return rise.reshape(x.shape) / width

    step = _choose_first_steps(wide, i)
    sizes = [_pair_with_cotangent(wide, i, x + each * h, np.abs).reshape(x.shape) for h in (step, -step)]
    return extrapolate_to_zero_step(difference, step, 1 + np.maximum(*sizes))


def extrapolate_to_zero_step(
    difference: Callable[[Array], Array], step: Array, scale: Array
) -> DerivativeEstimate:
    """Return the limit of difference(h) = (f(a + h) - f(a - h)) / 2h at h = 0, for each of an array of steps.

    Of the triangle of extrapolations the entry is taken that differs least from the two it was made of.

    Args:
        difference: The difference quotient.
        step: The first h.
        scale: The size of the terms of f a step away, whose rounding the differences magnify; at a they may
            all be 0.
    """
    # f is a sum of terms of this size, each of them some ulps off.
    rounding = 4 * np.finfo(np.longdouble).eps * scale
    row = [difference(step)]
    best, error = row[0], np.full(step.shape, np.longdouble(np.inf))
    for k in (*HALVINGS, *EXTRA_HALVINGS):
        unconverged = (error > CONVERGED_ERROR * (abs(best) + scale)) & np.isfinite(error)
        if k in EXTRA_HALVINGS and not np.any(unconverged):
            break
        next_row = [difference(step / 2**k)]
        for j, previous in enumerate(row):
            entry = next_row[j] + (next_row[j] - previous) / (4 ** (j + 1) - 1)
            next_row.append(entry)
            off = np.maximum(abs(entry - next_row[j]), abs(entry - previous)) + rounding * 2**k / step
            best, error = np.where(off < error, entry, best), np.minimum(off, error)
        row = next_row
    return DerivativeEstimate(best, error)


def _pair_with_cotangent(
    case: Case, i: int, xs: Array, transform: Callable[[Array], Array] = np.asarray
) -> Array:
    """Return <cotangent, value> for each of several arrays in place of the i-th input.

    Args:
        case: The case.
        i: The number of the input.
        xs: The arrays, stacked on a first axis.
        transform: What is done to the terms of the sum before they are added up.
    """
    # Of an elementwise op all of them are one call, with a further axis to broadcast over.
    if case.op.elementwise:
        x = case.inputs[i]
        stacked = xs.reshape(len(xs), *(1,) * (case.cotangent.ndim - x.ndim), *x.shape)
        terms = transform(case.cotangent * _compute_value(case, i, stacked))
        return np.asarray(np.sum(terms, axis=tuple(range(1, terms.ndim))))
    return np.array(
        [np.sum(transform(case.cotangent * _compute_value(case, i, x))) for x in xs], np.longdouble
    )


def _compute_value(case: Case, i: int, x: Array) -> Array:
    return np.asarray(case.op.compute_value(*case.with_input(i, x).inputs, **case.keywords))


def _choose_first_steps(case: Case, i: int) -> Array:
    """Return, for each element, a step that stays inside the domain and short of the next kink."""
    x = case.inputs[i]
    step = np.full(x.shape, np.longdouble(1) / 16)
    domain = case.op.domain(i)
    assert isinstance(domain, Interval)
    for edge in (domain.low, domain.high, *domain.hole):
        if np.isfinite(edge):
            step = np.minimum(step, np.abs(x - edge) / 4)
    if case.op.kinks is not None:
        step = np.minimum(step, case.op.kinks(*case.inputs, **case.keywords)[i] / 4)
    return np.asarray(step)
