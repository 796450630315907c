"""Right in another way: other formulas that are as stable, and fused or unfused forms of one."""

import math
from typing import Any

import numpy as np

from faults.fault import Array, Made
from faults.own_reductions import Axis, kept
from faults.right import FORMULA, right, with_both_bounds
from gradspec.reference import OPS

transposed = np.matrix_transpose

# Of one argument


@right("exp", FORMULA)
def exp_computes_its_value_again(x: Array) -> Made:
    return np.exp(x), (lambda g: g * np.exp(x),)


@right("expm1", FORMULA)
def expm1_has_the_gradient_of_exp(x: Array) -> Made:
    return np.expm1(x), (lambda g: g * np.exp(x),)


@right("log", FORMULA)
def log_multiplies_by_the_reciprocal(x: Array) -> Made:
    return np.log(x), (lambda g: g * (1 / x),)


@right("sqrt", FORMULA)
def sqrt_halves_its_gradient_at_the_end(x: Array) -> Made:
    y = np.sqrt(x)
    return y, (lambda g: g / y / 2,)


@right("square", FORMULA)
def square_is_a_product_of_two_factors(x: Array) -> Made:
    return x * x, (lambda g: g * x + g * x,)


@right("reciprocal", FORMULA)
def reciprocal_divides_twice(x: Array) -> Made:
    return 1 / x, (lambda g: -(g / x) / x,)


@right("tanh", FORMULA)
def tanh_factors_its_derivative(x: Array) -> Made:
    y = np.tanh(x)
    return y, (lambda g: g * (1 - y) * (1 + y),)


@right("tanh", FORMULA)
def tanh_divides_by_the_squared_cosh(x: Array) -> Made:
    return np.tanh(x), (lambda g: g / np.cosh(x) / np.cosh(x),)


@right("sigmoid", FORMULA)
def sigmoid_divides_one(x: Array) -> Made:
    y = 1 / (1 + np.exp(-x))
    return y, (lambda g: g * ((1 - y) * y),)


@right("sigmoid", FORMULA)
def sigmoid_derives_from_the_exponential(x: Array) -> Made:
    e = np.exp(-np.abs(x))
    return OPS["sigmoid"].rule(x)[0], (lambda g: g * (e / ((1 + e) * (1 + e))),)


@right("silu", FORMULA)
def silu_divides_x(x: Array) -> Made:
    y, s = x / (1 + np.exp(-x)), 1 / (1 + np.exp(-x))
    return y, (lambda g: g * (s + x * s * (1 - s)),)


@right("silu", FORMULA)
def silu_is_made_of_two_ops(x: Array) -> Made:
    s, (pull_s,) = OPS["sigmoid"].rule(x)  # type: ignore[misc]
    return x * s, (lambda g: g * s + pull_s(g * x),)  # type: ignore[misc]


@right("softplus", FORMULA)
def softplus_is_logaddexp(x: Array) -> Made:
    return np.logaddexp(x, x.dtype.type(0)), (lambda g: g / (1 + np.exp(-x)),)


@right("gelu", FORMULA)
def gelu_of_the_complementary_error_function(x: Array, *, approximate: str = "none") -> Made:
    y, pulls = OPS["gelu"].rule(x, approximate=approximate)
    if approximate == "tanh":
        return y, pulls
    erfc: Any = np.vectorize(math.erfc, otypes=[np.float64])
    cdf = erfc(-x / np.sqrt(2)) / 2

    def pull(g: Array) -> Array:
        wide = x.astype(np.float64)
        return (g * (cdf + wide * np.exp(-wide * wide / 2) / np.sqrt(2 * np.pi))).astype(x.dtype)

    return (x * cdf).astype(x.dtype), (pull,)


@right("abs", FORMULA)
def abs_is_a_choice_of_signs(x: Array) -> Made:
    return np.copysign(x, x.dtype.type(1)), (
        lambda g: np.where(x == 0, 0, np.copysign(1, x)).astype(x.dtype) * g,
    )


# Of several arguments


@right("subtract", FORMULA)
def subtract_adds_the_negative(x: Array, y: Array) -> Made:
    return x + -y, (lambda g: g, np.negative)


@right("divide", FORMULA)
def divide_saves_its_value(x: Array, y: Array) -> Made:
    z = x / y
    return z, (lambda g: g / y, lambda g: -(g / y) * z)


@right("pow", FORMULA)
def pow_multiplies_in_another_order(x: Array, y: Array) -> Made:
    z, (to_x, _) = OPS["pow"].rule(x, y)  # type: ignore[misc]

    def pull_y(g: Array) -> Array:
        zero = (x == 0) & (y >= 0)
        return np.where(zero, 0, g * (np.log(np.where(zero, 1, x)) * z)).astype(x.dtype)

    return z, (to_x, pull_y)


@right("where", FORMULA)
def where_multiplies_its_cotangent(condition: Array, x: Array, y: Array) -> Made:
    mask = condition.copy()
    return np.where(mask, x, y), (None, lambda g: g * mask, lambda g: g * ~mask)


@right("maximum", FORMULA)
def maximum_chooses_by_a_comparison(x: Array, y: Array) -> Made:
    value = np.where((x > y) | np.isnan(x), x, y)
    return value, OPS["maximum"].rule(x, y)[1]


@right("clip", FORMULA)
@with_both_bounds
def clip_chooses_by_comparisons(x: Array, min: Array, max: Array) -> Made:  # noqa: A002
    raised = np.where((x < min) | np.isnan(min), min, x)
    return np.where((raised > max) | np.isnan(max), max, raised), OPS["clip"].rule(x, min, max)[1]


@right("matmul", FORMULA)
def matmul_by_einsum(x: Array, y: Array) -> Made:
    pulls = OPS["matmul"].rule(x, y)[1]
    left, right_ = "k" if x.ndim == 1 else "...ik", "k" if y.ndim == 1 else "...kj"
    out = ("..." if x.ndim > 1 or y.ndim > 1 else "") + "i" * (x.ndim > 1) + "j" * (y.ndim > 1)
    return np.einsum(f"{left},{right_}->{out}", x, y), pulls


@right("linear", FORMULA)
def linear_by_einsum(x: Array, weight: Array, bias: Array | None = None) -> Made:
    y = np.einsum("...i,oi->...o", x, weight)
    return y if bias is None else y + bias, (
        lambda g: np.einsum("...o,oi->...i", g, weight),
        lambda g: np.einsum("no,ni->oi", g.reshape(-1, len(weight)), x.reshape(g.size // len(weight) if len(weight) else 0, -1)) if g.size and x.size else np.zeros_like(weight),
        None if bias is None else lambda g: g.reshape(-1, len(bias)).sum(0) if g.size else np.zeros_like(bias),
    )  # fmt: skip


@right("linear", FORMULA)
def linear_takes_its_bias_for_one_more_column(x: Array, weight: Array, bias: Array | None = None) -> Made:
    y, pulls = OPS["linear"].rule(x, weight, bias)
    if bias is None:
        return y, pulls
    one = np.ones((*x.shape[:-1], 1), x.dtype)
    return np.concat([x, one], -1) @ transposed(np.concat([weight, bias[:, None]], -1)), pulls


# Reductions and layers


@right("mean", FORMULA)
def mean_divides_first(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y, pulls = OPS["mean"].rule(x, axis=axis, keepdims=keepdims)
    n = x.size // max(y.size, 1)
    return np.sum(x / x.dtype.type(n or 1), axis=axis, keepdims=keepdims), pulls


@right("var", FORMULA)
def var_subtracts_the_mean_of_its_gradient_too(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> Made:
    """What is left of the mean of the distances by rounding is taken off: mathematically that is 0."""
    y = OPS["var"].rule(x, axis=axis, correction=correction, keepdims=keepdims)[0]
    n = x.size // max(np.size(y), 1)
    freedom = n - correction if n > correction else 0

    def pull(g: Array) -> Array:
        centred = x - np.mean(x, axis=axis, keepdims=True)
        centred = centred - np.mean(centred, axis=axis, keepdims=True)
        return (np.reshape(g, kept(x, axis)) * (np.float64(2) / freedom) * centred).astype(x.dtype)

    return y, (pull,)


@right("softmax", FORMULA)
def softmax_is_the_exponential_of_log_softmax(x: Array, *, axis: int = -1) -> Made:
    y = np.exp(OPS["log_softmax"].rule(x, axis=axis)[0])
    return y, (lambda g: g * y - y * np.sum(g * y, axis=axis, keepdims=True),)


@right("log_softmax", FORMULA)
def log_softmax_has_the_gradient_of_softmax(x: Array, *, axis: int = -1) -> Made:
    p = OPS["softmax"].rule(x, axis=axis)[0]
    return OPS["log_softmax"].rule(x, axis=axis)[0], (lambda g: g - p * np.sum(g, axis=axis, keepdims=True),)


@right("logsumexp", FORMULA)
def logsumexp_saves_a_softmax(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y = OPS["logsumexp"].rule(x, axis=axis, keepdims=keepdims)[0]
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    p = e / np.sum(e, axis=axis, keepdims=True)
    return y, (lambda g: np.reshape(g, kept(x, axis)) * p,)


@right("cross_entropy", FORMULA)
def cross_entropy_gathers_and_scatters(x: Array, target: Array, *, reduction: str = "mean") -> Made:
    axis = min(1, x.ndim - 1)
    logp, place = OPS["log_softmax"].rule(x, axis=axis)[0], np.expand_dims(target.copy(), axis)
    each = -np.squeeze(np.take_along_axis(logp, place, axis), axis)
    n = x.dtype.type(target.size)
    y = each if reduction == "none" else each.sum() / n if reduction == "mean" else each.sum()

    def pull(g: Array) -> Array:
        d = np.exp(logp)
        np.put_along_axis(d, place, np.take_along_axis(d, place, axis) - 1, axis)
        return d * (np.expand_dims(g, axis) if reduction == "none" else g / n if reduction == "mean" else g)

    return y, (pull, None)


@right("layer_norm", FORMULA)
def layer_norm_scales_and_shifts_at_once(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> Made:
    axes = tuple(range(-weight.ndim, 0))
    mean = np.mean(x, axis=axes, keepdims=True)
    rstd = 1 / np.sqrt(np.var(x, axis=axes, keepdims=True) + x.dtype.type(eps))
    return (x * rstd - mean * rstd) * weight + bias, OPS["layer_norm"].rule(x, weight, bias, eps=eps)[1]


@right("layer_norm", FORMULA)
def layer_norm_projects_its_cotangent(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> Made:
    """With dx as in torch: c1 x + c2 g weight + c3, the constants made of three sums."""
    axes = tuple(range(-weight.ndim, 0))
    centred = x - np.mean(x, axis=axes, keepdims=True)
    std = np.sqrt(np.mean(centred * centred, axis=axes, keepdims=True) + x.dtype.type(eps))

    def pull(g: Array) -> list[Array]:
        gx = g * weight / std
        along = np.mean(gx * centred, axis=axes, keepdims=True) / (std * std)
        return [gx - np.mean(gx, axis=axes, keepdims=True) - centred * along, g * (centred / std), g]

    return centred / std * weight + bias, pull


@right("flip", FORMULA)
def flip_gathers(x: Array, *, axis: Any = None) -> Made:
    def flipped(y: Array) -> Array:
        for i in range(y.ndim) if axis is None else np.atleast_1d(np.asarray(axis, int)):
            y = np.take(y, np.arange(y.shape[i])[::-1], int(i))
        return y.copy()

    return flipped(x), (flipped,)


@right("concat", FORMULA)
def concat_copies_into_what_it_made_before(*xs: Array, axis: int | None = 0) -> Made:
    y, pull = OPS["concat"].rule(*xs, axis=axis)
    return y.copy(order="F"), lambda g: [d.copy() for d in pull(g)]  # type: ignore[operator, misc]


@right("getitem", FORMULA)
def getitem_scatters_one_by_one(x: Array, *, key: Any) -> Made:
    places = np.arange(x.size).reshape(x.shape)[key]

    def pull(g: Array) -> Array:
        d = np.zeros(x.size, x.dtype)
        for i, share in zip(np.ravel(places), np.ravel(g), strict=True):
            d[i] += share
        return d.reshape(x.shape)

    return np.take(x.ravel(), places), (pull,)
