"""Activations: what neural networks put between their layers."""

from typing import Literal

import numpy as np

from gradspec.reference.declaration import op
from gradspec.reference.domains import Real
from gradspec.reference.erf import erf, erfc, pi
from gradspec.reference.kink_distances import points
from gradspec.reference.ops.elementwise import decay, route_to_winner, sigmoid_slope
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array


def _one_over(x: Real) -> VJP:
    def pull(g: Array) -> Array:
        y = _apply_one_over(x)  # recorded as one step, so that the derivative of y is y (1 - y), too
        return g * y * (1 - y)

    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x)), (pull,)


_apply_one_over = record(_one_over)


@op("()->()", also=(_one_over,))
def sigmoid(x: Real) -> VJP:
    e = decay(x)
    return np.where(x < 0, e, 1) / (1 + e), (lambda g: g * sigmoid_slope(x, e),)


@op("()->()", kinks=points(0))
def relu(x: Real) -> VJP:
    return np.maximum(x, 0), (lambda g: route_to_winner(g, x > 0, x == 0),)


def _one_plus_erf(x: Real, *, approximate: Literal["none", "tanh"] = "none") -> VJP:
    if approximate == "none":
        cdf = (1 + erf(x / np.sqrt(x.dtype.type(2)))) / 2
        return x * cdf, (lambda g: g * (cdf + x * np.exp(-x * x / 2) / np.sqrt(2 * pi(x.dtype))),)
    c = np.sqrt(2 / pi(x.dtype))
    t = np.tanh(c * (x + x * x * x * 0.044715))

    def pull(g: Array) -> Array:
        slope = 1 - t * t
        return g * (1 + t + np.where(slope == 0, 0, x * slope * c * (1 + x * x * 3 * 0.044715))) / 2

    return x * (1 + t) / 2, (pull,)


@op("()->()", approximate=("none", "tanh"), also=(_one_plus_erf,))
def gelu(x: Real, *, approximate: Literal["none", "tanh"] = "none") -> VJP:
    """Return `x Phi(x)` with the normal distribution's Phi, or an approximation of it.

    Args:
        x: any numbers.
        approximate: "none", or "tanh" for the approximation by tanh (Hendrycks and Gimpel, 2016).
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is {approximate!r}; allowed are 'none' and 'tanh'")
    if approximate == "none":
        cdf = erfc(-x / np.sqrt(x.dtype.type(2))) / 2
        return x * cdf, (lambda g: g * (cdf + x * np.exp(-x * x / 2) / np.sqrt(2 * pi(x.dtype))),)
    c = np.sqrt(2 / pi(x.dtype))
    u = (x + x * x * x * 0.044715) * (2 * c)
    s = sigmoid(u)  # (1 + tanh(u / 2)) / 2

    # Where s is flat to the last bit, its slope is 0 even if that of its argument is inf.
    def pull(g: Array) -> Array:
        slope = s * sigmoid(-u)
        return g * (s + np.where(slope == 0, 0, x * slope * (2 * c) * (1 + x * x * 3 * 0.044715)))

    return x * s, (pull,)


def _one_less_sigmoid(x: Real) -> VJP:
    s = sigmoid(x)
    return x * s, (lambda g: g * s * (1 + x * (1 - s)),)


@op("()->()", also=(_one_less_sigmoid,))
def silu(x: Real) -> VJP:
    s = sigmoid(x)
    return x * s, (lambda g: g * s * (1 + x * sigmoid(-x)),)


@op("()->()")
def softplus(x: Real) -> VJP:
    # log(1 + exp(x)) without overflow.
    y = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return y, (lambda g: g * sigmoid(x),)
