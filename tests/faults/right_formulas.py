"""Variants with other formulas that are as stable, and with fused or unfused forms."""

from typing import Any

import numpy as np

from gradspec.reference import OPS
from tests.faults.fault import Array, RuleResult
from tests.faults.own import apply_pullbacks
from tests.faults.own_reductions import Axis, keepdims_shape
from tests.faults.right import KIND_FORMULA, leave_missing_bounds_to_spec, right_rule

transpose = np.matrix_transpose

# Ops of one argument


@right_rule("exp", KIND_FORMULA)
def exp_computes_its_value_again(x: Array) -> RuleResult:
    return np.exp(x), (lambda g: g * np.exp(x),)


@right_rule("log", KIND_FORMULA)
def log_multiplies_by_the_reciprocal(x: Array) -> RuleResult:
    return np.log(x), (lambda g: g * (1 / x),)


@right_rule("sqrt", KIND_FORMULA)
def sqrt_halves_its_gradient_at_the_end(x: Array) -> RuleResult:
    y = np.sqrt(x)
    return y, (lambda g: g / y / 2,)


@right_rule("square", KIND_FORMULA)
def square_is_a_product_of_two_factors(x: Array) -> RuleResult:
    return x * x, (lambda g: g * x + g * x,)


@right_rule("reciprocal", KIND_FORMULA)
def reciprocal_divides_twice(x: Array) -> RuleResult:
    return 1 / x, (lambda g: -(g / x) / x,)


@right_rule("tanh", KIND_FORMULA)
def tanh_factors_its_derivative(x: Array) -> RuleResult:
    y = np.tanh(x)
    return y, (lambda g: g * (1 - y) * (1 + y),)


@right_rule("tanh", KIND_FORMULA)
def tanh_divides_by_the_squared_cosh(x: Array) -> RuleResult:
    return np.tanh(x), (lambda g: g / np.cosh(x) / np.cosh(x),)


@right_rule("silu", KIND_FORMULA)
def silu_divides_x(x: Array) -> RuleResult:
    y, s = x / (1 + np.exp(-x)), 1 / (1 + np.exp(-x))
    return y, (lambda g: g * (s + x * s * (1 - s)),)


@right_rule("silu", KIND_FORMULA)
def silu_is_made_of_two_ops(x: Array) -> RuleResult:
    s, (pull_s,) = OPS["sigmoid"].rule(x)  # type: ignore[misc]
    return x * s, (lambda g: g * s + pull_s(g * x),)  # type: ignore[misc]


@right_rule("softplus", KIND_FORMULA)
def softplus_is_logaddexp(x: Array) -> RuleResult:
    return np.logaddexp(x, x.dtype.type(0)), (lambda g: g / (1 + np.exp(-x)),)


@right_rule("abs", KIND_FORMULA)
def abs_is_a_choice_of_signs(x: Array) -> RuleResult:
    y = np.copysign(x, x.dtype.type(1))
    return y, (lambda g: np.where(x == 0, 0, np.copysign(1, x)).astype(x.dtype) * g,)


# Ops of several arguments


@right_rule("subtract", KIND_FORMULA)
def subtract_adds_the_negative(x: Array, y: Array) -> RuleResult:
    return x + -y, (lambda g: g, np.negative)


@right_rule("divide", KIND_FORMULA)
def divide_saves_its_value(x: Array, y: Array) -> RuleResult:
    z = x / y
    return z, (lambda g: g / y, lambda g: -(g / y) * z)


@right_rule("pow", KIND_FORMULA)
def pow_multiplies_in_another_order(x: Array, y: Array) -> RuleResult:
    z, (to_x, _) = OPS["pow"].rule(x, y)  # type: ignore[misc]

    def pull_y(g: Array) -> Array:
        zero = (x == 0) & (y >= 0)
        return np.where(zero, 0, g * (np.log(np.where(zero, 1, x)) * z)).astype(x.dtype)

    return z, (to_x, pull_y)


@right_rule("where", KIND_FORMULA)
def where_multiplies_its_cotangent(condition: Array, x: Array, y: Array) -> RuleResult:
    mask = condition.copy()
    return np.where(mask, x, y), (None, lambda g: g * mask, lambda g: g * ~mask)


@right_rule("maximum", KIND_FORMULA)
def maximum_chooses_by_a_comparison(x: Array, y: Array) -> RuleResult:
    value = np.where((x > y) | np.isnan(x), x, y)
    return value, OPS["maximum"].rule(x, y)[1]


@right_rule("clip", KIND_FORMULA)
@leave_missing_bounds_to_spec
def clip_chooses_by_comparisons(x: Array, min: Array, max: Array) -> RuleResult:  # noqa: A002
    raised = np.where((x < min) | np.isnan(min), min, x)
    return np.where((raised > max) | np.isnan(max), max, raised), OPS["clip"].rule(x, min, max)[1]


@right_rule("clip", KIND_FORMULA)
@leave_missing_bounds_to_spec
def clip_lets_the_lower_bound_win(x: Array, min: Array, max: Array) -> RuleResult:  # noqa: A002
    capped, cap = OPS["minimum"].rule(x, max)
    y, raise_ = OPS["maximum"].rule(capped, min)

    def pull(g: Array) -> list[Array]:
        g_capped, g_min = apply_pullbacks(raise_, g)
        g_x, g_max = apply_pullbacks(cap, g_capped)
        return [g_x, g_min, g_max]

    return y, pull


@right_rule("clip", KIND_FORMULA)
@leave_missing_bounds_to_spec
def clip_refuses_bounds_in_the_wrong_order(x: Array, min: Array, max: Array) -> RuleResult:  # noqa: A002
    if np.any(min > max):
        raise ValueError("min is larger than max")
    return OPS["clip"].rule(x, min, max)


@right_rule("matmul", KIND_FORMULA)
def matmul_by_einsum(x: Array, y: Array) -> RuleResult:
    pulls = OPS["matmul"].rule(x, y)[1]
    left, right_ = "k" if x.ndim == 1 else "...ik", "k" if y.ndim == 1 else "...kj"
    out = ("..." if x.ndim > 1 or y.ndim > 1 else "") + "i" * (x.ndim > 1) + "j" * (y.ndim > 1)
    return np.einsum(f"{left},{right_}->{out}", x, y), pulls


@right_rule("linear", KIND_FORMULA)
def linear_by_einsum(x: Array, weight: Array, bias: Array | None = None) -> RuleResult:
    y = np.einsum("...i,oi->...o", x, weight)

    def pull_weight(g: Array) -> Array:
        if not g.size or not x.size:
            return np.zeros_like(weight)
        rows = g.size // len(weight)
        return np.einsum("no,ni->oi", g.reshape(-1, len(weight)), x.reshape(rows, -1))

    def pull_bias(g: Array) -> Array:
        return g.reshape(-1, len(weight)).sum(0) if g.size else np.zeros_like(bias)

    pull_x = lambda g: np.einsum("...o,oi->...i", g, weight)
    return y if bias is None else y + bias, (pull_x, pull_weight, None if bias is None else pull_bias)


@right_rule("linear", KIND_FORMULA)
def linear_takes_its_bias_for_one_more_column(
    x: Array, weight: Array, bias: Array | None = None
) -> RuleResult:
    y, pulls = OPS["linear"].rule(x, weight, bias)
    if bias is None:
        return y, pulls
    one = np.ones((*x.shape[:-1], 1), x.dtype)
    return np.concat([x, one], -1) @ transpose(np.concat([weight, bias[:, None]], -1)), pulls


# Reductions and layers


@right_rule("mean", KIND_FORMULA)
def mean_divides_first(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y, pulls = OPS["mean"].rule(x, axis=axis, keepdims=keepdims)
    n = x.size // max(y.size, 1)
    return np.sum(x / x.dtype.type(n or 1), axis=axis, keepdims=keepdims), pulls


@right_rule("var", KIND_FORMULA)
def var_subtracts_the_mean_of_its_gradient_too(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> RuleResult:
    """The mean of the distances, mathematically 0, is subtracted: rounding leaves something of it."""
    y = OPS["var"].rule(x, axis=axis, correction=correction, keepdims=keepdims)[0]
    n = x.size // max(np.size(y), 1)
    freedom = n - correction if n > correction else 0

    def pull(g: Array) -> Array:
        centred = x - np.mean(x, axis=axis, keepdims=True)
        centred = centred - np.mean(centred, axis=axis, keepdims=True)
        return (np.reshape(g, keepdims_shape(x, axis)) * (np.float64(2) / freedom) * centred).astype(x.dtype)

    return y, (pull,)


@right_rule("softmax", KIND_FORMULA)
def softmax_is_the_exponential_of_log_softmax(x: Array, *, axis: int = -1) -> RuleResult:
    y = np.exp(OPS["log_softmax"].rule(x, axis=axis)[0])
    return y, (lambda g: g * y - y * np.sum(g * y, axis=axis, keepdims=True),)


@right_rule("log_softmax", KIND_FORMULA)
def log_softmax_has_the_gradient_of_softmax(x: Array, *, axis: int = -1) -> RuleResult:
    p = OPS["softmax"].rule(x, axis=axis)[0]
    return OPS["log_softmax"].rule(x, axis=axis)[0], (lambda g: g - p * np.sum(g, axis=axis, keepdims=True),)


@right_rule("layer_norm", KIND_FORMULA)
def layer_norm_scales_and_shifts_at_once(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> RuleResult:
    axes = tuple(range(-weight.ndim, 0))
    mean = np.mean(x, axis=axes, keepdims=True)
    rstd = 1 / np.sqrt(np.var(x, axis=axes, keepdims=True) + x.dtype.type(eps))
    return (x * rstd - mean * rstd) * weight + bias, OPS["layer_norm"].rule(x, weight, bias, eps=eps)[1]


@right_rule("layer_norm", KIND_FORMULA)
def layer_norm_projects_its_cotangent(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> RuleResult:
    """The gradient of x is that of torch: c1 x + c2 g weight + c3, the constants made of three sums."""
    axes = tuple(range(-weight.ndim, 0))
    centred = x - np.mean(x, axis=axes, keepdims=True)
    std = np.sqrt(np.mean(centred * centred, axis=axes, keepdims=True) + x.dtype.type(eps))

    def pull(g: Array) -> list[Array]:
        gx = g * weight / std
        along = np.mean(gx * centred, axis=axes, keepdims=True) / (std * std)
        return [gx - np.mean(gx, axis=axes, keepdims=True) - centred * along, g * (centred / std), g]

    return centred / std * weight + bias, pull


@right_rule("flip", KIND_FORMULA)
def flip_gathers(x: Array, *, axis: Any = None) -> RuleResult:
    def flip(y: Array) -> Array:
        for i in range(y.ndim) if axis is None else np.atleast_1d(np.asarray(axis, int)):
            y = np.take(y, np.arange(y.shape[i])[::-1], int(i))
        return y.copy()

    return flip(x), (flip,)


@right_rule("concat", KIND_FORMULA)
def concat_copies_into_what_it_made_before(*xs: Array, axis: int | None = 0) -> RuleResult:
    y, pull = OPS["concat"].rule(*xs, axis=axis)
    return y.copy(order="F"), lambda g: [d.copy() for d in pull(g)]  # type: ignore[operator, misc]


@right_rule("getitem", KIND_FORMULA)
def getitem_scatters_one_by_one(x: Array, *, key: Any) -> RuleResult:
    places = np.arange(x.size).reshape(x.shape)[key]

    def pull(g: Array) -> Array:
        d = np.zeros(x.size, x.dtype)
        for i, share in zip(np.ravel(places), np.ravel(g), strict=True):
            d[i] += share
        return d.reshape(x.shape)

    return np.take(x.ravel(), places), (pull,)
