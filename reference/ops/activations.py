"""Activations: what neural networks put between their layers."""

from typing import Literal

import numpy as np

from gradspec.reference.domains import Real
from gradspec.reference.erf import erf, pi
from gradspec.reference.kink_distances import points
from gradspec.reference.op import op
from gradspec.reference.ops.elementwise import route_to_winner
from gradspec.reference.rule import VJP, Array


@op("()->()")
def sigmoid(x: Real) -> VJP:
    # e is at most 1, so that nothing overflows; unlike exp(-abs(x)) it is smooth at 0.
    e = np.exp(np.where(x < 0, x, -x))
    y = np.where(x < 0, e, 1) / (1 + e)
    return y, (lambda g: g * y * (1 - y),)


@op("()->()", kinks=points(0))
def relu(x: Real) -> VJP:
    return np.maximum(x, 0), (lambda g: route_to_winner(g, x > 0, x == 0),)


@op("()->()", approximate=("none", "tanh"))
def gelu(x: Real, *, approximate: Literal["none", "tanh"] = "none") -> VJP:
    """Return `x Phi(x)` with the normal distribution's Phi, or an approximation of it.

    Args:
        x: any numbers.
        approximate: "none", or "tanh" for the approximation by tanh (Hendrycks and Gimpel, 2016).
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is {approximate!r}; allowed are 'none' and 'tanh'")
    if approximate == "none":
        cdf = (1 + erf(x / np.sqrt(x.dtype.type(2)))) / 2
        return x * cdf, (lambda g: g * (cdf + x * np.exp(-x * x / 2) / np.sqrt(2 * pi(x.dtype))),)
    c = np.sqrt(2 / pi(x.dtype))
    t = np.tanh(c * (x + x * x * x * 0.044715))

    # Where tanh is flat to the last bit, its slope is 0 even if that of its argument is inf.
    def pull(g: Array) -> Array:
        slope = 1 - t * t
        return g * (1 + t + np.where(slope == 0, 0, x * slope * c * (1 + x * x * 3 * 0.044715))) / 2

    return x * (1 + t) / 2, (pull,)


@op("()->()")
def silu(x: Real) -> VJP:
    s = sigmoid(x)
    return x * s, (lambda g: g * s * (1 + x * (1 - s)),)


@op("()->()")
def softplus(x: Real) -> VJP:
    # log(1 + exp(x)) without overflow.
    y = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return y, (lambda g: g * sigmoid(x),)
