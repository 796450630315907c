"""Elementwise ops: each element of the value depends on one element of every argument, after broadcasting."""

from typing import Any

import numpy as np

from gradspec.reference.declaration import op
from gradspec.reference.domains import AboveMinusOne, Mask, NonZero, Positive, Real
from gradspec.reference.kink_distances import points, ties
from gradspec.reference.op import Op
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array


def route_to_winner(g: Array, wins: Array, tie: Array) -> Array:
    """Return the cotangent where this argument wins, half of it where there is a tie, and 0 elsewhere."""
    if type(g) is type(tie) is np.ndarray and np.isfinite(g).all():
        # For finite g, 0 times g is 0; np.where would take ten times as long.
        d = g * wins
        return d + g / 2 * tie if tie.any() else d
    return np.where(wins, g, np.where(tie, g / 2, 0))


@record
def decay(x: Array) -> VJP:
    """Return exp(-abs(x)), which is at most 1, as a constant."""
    return np.exp(-np.abs(x)), None


@record
def sigmoid_slope(x: Array, e: Array) -> VJP:
    """Return the derivative s(x) s(-x) of the sigmoid s, given e = exp(-abs(x)); only x has a gradient.

    Its derivative is (1 - 2 s(x)) times itself; 1 - 2 s(x) = -tanh(x/2) loses no digits near 0.
    """
    d = 1 + e
    return e / d / d, (lambda g: -g * np.tanh(x / 2) * sigmoid_slope(x, e), None)


def _apply_bound(extreme: Op, x: Array, bound: Array | None) -> Any:
    """Return what the rule of the maximum or minimum of x and a bound returns; x itself without a bound."""
    return (x, (lambda g: g, None)) if bound is None else extreme.rule(x, bound)


# Functions of one argument


@op("()->()")
def negative(x: Real) -> VJP:
    return -x, (lambda g: -g,)


@op("()->()", kinks=points(0))
def abs(x: Real) -> VJP:
    return np.abs(x), (lambda g: g * np.sign(x),)


@op("()->()")
def exp(x: Real) -> VJP:
    y = np.exp(x)
    return y, (lambda g: g * y,)


def _value_plus_one(x: Real) -> VJP:
    y = np.expm1(x)
    return y, (lambda g: g * (y + 1),)


@op("()->()", also=(_value_plus_one,))
def expm1(x: Real) -> VJP:
    return np.expm1(x), (lambda g: g * np.exp(x),)


@op("()->()")
def log(x: Positive) -> VJP:
    # x=x: a default makes the call of the rule and its pullback a tenth cheaper than a closure over x. Here
    # and in `multiply` it counts, as programs call these most.
    return np.log(x), (lambda g, x=x: g / x,)


@op("()->()")
def log1p(x: AboveMinusOne) -> VJP:
    return np.log1p(x), (lambda g: g / (1 + x),)


@op("()->()")
def sqrt(x: Positive) -> VJP:
    y = np.sqrt(x)
    return y, (lambda g: g / 2 / y,)


@op("()->()")
def square(x: Real) -> VJP:
    return np.square(x), (lambda g: g * 2 * x,)


@op("()->()")
def reciprocal(x: NonZero) -> VJP:
    y = 1 / x
    return y, (lambda g: -g * y * y,)


@op("()->()")
def sin(x: Real) -> VJP:
    return np.sin(x), (lambda g: g * np.cos(x),)


@op("()->()")
def cos(x: Real) -> VJP:
    return np.cos(x), (lambda g: -g * np.sin(x),)


def _one_less_square(x: Real) -> VJP:
    y = np.tanh(x)
    return y, (lambda g: g * (1 - y * y),)


@op("()->()", also=(_one_less_square,))
def tanh(x: Real) -> VJP:
    # 1 - tanh(x)^2 = 4 s(2x) s(-2x), with the sigmoid s, loses no digits where tanh is flat.
    def pull(g: Array) -> Array:
        twice = 2 * x
        return g * (4 * sigmoid_slope(twice, decay(twice)))

    return np.tanh(x), (pull,)


@op("()->()", kinks=points(0))
def sign(x: Real) -> VJP:
    return np.sign(x), None


# Functions of two and three arguments


@op("(),()->()")
def add(x: Real, y: Real) -> VJP:
    return x + y, (lambda g: g, lambda g: g)


@op("(),()->()")
def subtract(x: Real, y: Real) -> VJP:
    return x - y, (lambda g: g, lambda g: -g)


@op("(),()->()")
def multiply(x: Real, y: Real) -> VJP:
    return x * y, (lambda g, y=y: g * y, lambda g, x=x: g * x)


@op("(),()->()")
def divide(x: Real, y: NonZero) -> VJP:
    return x / y, (lambda g: g / y, lambda g: -g / y * (x / y))


@op("(),()->()")
def pow(x: Positive, y: Real) -> VJP:
    z = np.pow(x, y)

    # y x^(y-1). Where y = 0 that is 0, even at x = 0, and its derivative by y is 1/x.
    def pull_x(g: Array) -> Array:
        return np.where(y == 0, g * y / np.where(x == 0, 1, x), g * y * np.pow(x, y - (y != 0)))

    # x^y log x, and 0 at x = 0, where x^y vanishes faster than log x grows.
    def pull_y(g: Array) -> Array:
        zero = np.logical_and(x == 0, y >= 0)
        return np.where(zero, 0, g * z * np.log(np.where(zero, z.dtype.type(1), x)))

    return z, (pull_x, pull_y)


@op("(),()->()", kinks=ties)
def maximum(x: Real, y: Real) -> VJP:
    tie = x == y
    return np.maximum(x, y), (
        lambda g: route_to_winner(g, x > y, tie),
        lambda g: route_to_winner(g, y > x, tie),
    )


@op("(),()->()", kinks=ties)
def minimum(x: Real, y: Real) -> VJP:
    tie = x == y
    return np.minimum(x, y), (
        lambda g: route_to_winner(g, x < y, tie),
        lambda g: route_to_winner(g, y < x, tie),
    )


@op("(),(),()->()")
def where(condition: Mask, x: Real, y: Real) -> VJP:
    # An array of any library stays as it is.
    condition = condition if hasattr(condition, "dtype") else np.asarray(condition)
    if (kind := condition.dtype) != np.bool_:
        raise TypeError(f"where needs a condition of booleans, not of {kind}; compare first, as in x > 0")
    # A copy, so that nobody overwrites what the pullbacks need.
    condition = np.where(condition, True, False)
    return np.where(condition, x, y), (
        None,
        lambda g: np.where(condition, g, 0),
        lambda g: np.where(condition, 0, g),
    )


def order_bounds(x: Array, low: Array | None = None, high: Array | None = None) -> list[Array]:
    """Return the arguments of clip with bounds that are nowhere in the wrong order.

    The Array API standard leaves open what `clip` gives where min is larger than max.
    """
    if low is None or high is None:
        return [bound for bound in (x, low, high) if bound is not None]
    crossed = low > high
    if not np.any(crossed):
        return [x, low, high]
    lower, upper = np.where(crossed, high, low), np.where(crossed, low, high)
    return [x, _reduce_to(low.shape, np.minimum, lower), _reduce_to(high.shape, np.maximum, upper)]


def _reduce_to(shape: tuple[int, ...], extreme: np.ufunc, x: Array) -> Array:
    """Return the extremes over the axes along which an array of this shape was broadcast to that of x."""
    lead = x.ndim - len(shape)
    stretched = tuple(i for i, n in enumerate(shape, lead) if n == 1)
    return np.asarray(extreme.reduce(x, axis=(*range(lead), *stretched), keepdims=True)).reshape(shape)


@op("(),(),()->()", kinks=ties, settle=order_bounds)
def clip(x: Real, min: Real = None, max: Real = None) -> VJP:
    """Return minimum(maximum(x, min), max); a bound may be an array, a number or None."""
    z, (pull_x, pull_min) = _apply_bound(maximum, x, min)
    y, (pull_z, pull_max) = _apply_bound(minimum, z, max)
    return y, (
        lambda g: pull_x(pull_z(g)),
        None if min is None else lambda g: pull_min(pull_z(g)),
        pull_max,
    )


@op("(),()->()", kinks=ties)
def equal(x: Real, y: Real) -> VJP:
    return np.equal(x, y), None


@op("(),()->()", kinks=ties)
def less(x: Real, y: Real) -> VJP:
    return np.less(x, y), None


@op("(),()->()", kinks=ties)
def greater(x: Real, y: Real) -> VJP:
    return np.greater(x, y), None
