"""Softmax along any axes, e / sum(e) with e = exp(x - max(x)), and what logsumexp and losses share with it.

Where one element prevails its share is close to 1, and 1 - share and its logarithm are lost to rounding. Here
both come from the sum of the other elements.

Derivatives of that formula by way of e would lose digits. So e is a constant, and `share` knows its
derivative by x.
"""

import numpy as np

from gradspec.reference.axes import Axes
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array

PREVAILING_SHARE = 0.75
"""At most one element has a larger share, however shares are rounded."""


@record
def constant_exp(shifted: Array) -> VJP:
    """Return exp(shifted), as a constant."""
    return np.exp(shifted), None


@record
def log_of_sum(e: Array, shifted: Array, *, axis: Axes) -> VJP:
    """Return the logarithm of the sum of e = exp(shifted) along the axes, of length 1 then, as a constant.

    Terms are 1 where x is largest, and shifted 0. One of them is left to log1p: so a sum close to 1 loses no
    digits.
    """
    is_top = shifted == 0
    ties = np.sum(is_top, axis=axis, keepdims=True).astype(e.dtype)
    others = np.sum(np.where(is_top, 0, e), axis=axis, keepdims=True)
    with_ties = np.log1p(np.where(ties == 0, 0, others + (ties - 1)))
    # log 0 = -inf is the value where every term is exp(-inf).
    with np.errstate(divide="ignore"):
        return np.where(ties == 0, np.log(others), with_ties), None


@record
def share(x: Array, e: Array, total: Array, *, axis: Axes) -> VJP:
    """Return the softmax e / total of x along the axes; only x has a gradient."""
    return e / total, (lambda g: pull_share(g, share(x, e, total, axis=axis), axis), None, None)


@record
def take_at_top(g: Array, y: Array, *, axis: Axes) -> VJP:
    """Return the g of an element whose y is the largest along the axes, of length 1 then, as a constant.

    It is 0 where that is infinite or NaN.
    """
    if not y.size:
        return np.sum(y, axis=axis, keepdims=True), None
    top = np.max(y, axis=axis, keepdims=True)
    g_at_top = np.max(np.where(y == top, g, -np.inf), axis=axis, keepdims=True)
    return np.where(np.isfinite(g_at_top), g_at_top, 0).astype(g.dtype), None


def pull_share(g: Array, y: Array, axis: Axes) -> Array:
    """Return the gradient of the softmax y.

    It stays the same if all g along the axes change by as much. Where that of the largest y is 0, so is that
    of others as large which get as much, and the mean of g by y cancels nothing.
    """
    g = g - take_at_top(g, y, axis=axis)
    return balance(y * (g - np.sum(g * y, axis=axis, keepdims=True)), y, axis)


def balance(d: Array, y: Array, axis: Axes) -> Array:
    """Return a gradient d whose sum along the axes is 0, as of all functions of the softmax y alone.

    Where an element prevails, large numbers have cancelled in its d; it becomes minus the sum of the others.
    """
    prevails = y > PREVAILING_SHARE
    return np.where(prevails, -np.sum(np.where(prevails, 0, d), axis=axis, keepdims=True), d)
