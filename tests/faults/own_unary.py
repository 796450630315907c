"""Faults of elementwise ops of one argument: naive formulas, forgotten terms, the wrong array saved."""

import numpy as np

from gradspec.reference import OPS
from tests.faults.fault import (
    ELEMENTWISE_EXTREMES_PROPERTY,
    KINKS_PROPERTY,
    VALUE_PROPERTY,
    Array,
    RuleResult,
)
from tests.faults.own import wrong_rule


@wrong_rule("exp")
def exp_saves_its_input(x: Array) -> RuleResult:
    return np.exp(x), (lambda g: g * x,)


@wrong_rule("expm1")
def expm1_saves_its_value(x: Array) -> RuleResult:
    y = np.expm1(x)
    return y, (lambda g: g * y,)


@wrong_rule("log")
def log_guards_against_zero(x: Array) -> RuleResult:
    return np.log(x), (lambda g: g / (x + x.dtype.type(1e-6)),)


@wrong_rule("log", likely=VALUE_PROPERTY)
def log_adds_a_small_number(x: Array) -> RuleResult:
    return np.log(x + x.dtype.type(1e-6)), (lambda g: g / x,)


@wrong_rule("log1p")
def log1p_divides_by_x(x: Array) -> RuleResult:
    return np.log1p(x), (lambda g: g / x,)


@wrong_rule("sqrt")
def sqrt_saves_its_input(x: Array) -> RuleResult:
    return np.sqrt(x), (lambda g: g / 2 / x,)


@wrong_rule("sqrt")
def sqrt_adds_a_small_number(x: Array) -> RuleResult:
    return np.sqrt(x), (lambda g: g / 2 / np.sqrt(x + x.dtype.type(1e-6)),)


@wrong_rule("square")
def square_forgets_the_two(x: Array) -> RuleResult:
    return x * x, (lambda g: g * x,)


@wrong_rule("square")
def square_saves_its_value(x: Array) -> RuleResult:
    return x * x, (lambda g: g * 2 * x * x,)


@wrong_rule("reciprocal")
def reciprocal_forgets_a_factor(x: Array) -> RuleResult:
    return 1 / x, (lambda g: -g / x,)


@wrong_rule("sin")
def sin_is_its_own_derivative(x: Array) -> RuleResult:
    y = np.sin(x)
    return y, (lambda g: g * y,)


@wrong_rule("sin")
def sin_forgets_a_sign_past_a_quarter_turn(x: Array) -> RuleResult:
    y = np.sin(x)
    return y, (lambda g: g * np.sqrt(1 - y * y),)


@wrong_rule("cos")
def cos_forgets_the_minus(x: Array) -> RuleResult:
    return np.cos(x), (lambda g: g * np.sin(x),)


@wrong_rule("tanh", likely=VALUE_PROPERTY)
def tanh_is_a_quotient_of_exponentials(x: Array) -> RuleResult:
    y = (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))
    return y, OPS["tanh"].rule(x)[1]


@wrong_rule("tanh")
def tanh_forgets_the_square(x: Array) -> RuleResult:
    y = np.tanh(x)
    return y, (lambda g: g * (1 - y),)


@wrong_rule("tanh")
def tanh_saves_its_input(x: Array) -> RuleResult:
    return np.tanh(x), (lambda g: g * (1 - x * x),)


@wrong_rule("sigmoid", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def sigmoid_is_nan_for_large_numbers(x: Array) -> RuleResult:
    y = np.exp(x) / (1 + np.exp(x))
    return y, OPS["sigmoid"].rule(x)[1]


@wrong_rule("sigmoid", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def sigmoid_whose_gradient_overflows(x: Array) -> RuleResult:
    return OPS["sigmoid"].rule(x)[0], (lambda g: g * np.exp(-x) / (1 + np.exp(-x)) ** 2,)


@wrong_rule("sigmoid")
def sigmoid_squares_its_value(x: Array) -> RuleResult:
    y = OPS["sigmoid"].rule(x)[0]
    return y, (lambda g: g * y * y,)


@wrong_rule("softplus", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def softplus_overflows(x: Array) -> RuleResult:
    return np.log(1 + np.exp(x)), OPS["softplus"].rule(x)[1]


@wrong_rule("softplus", likely=VALUE_PROPERTY)
def softplus_cancels_for_negative_numbers(x: Array) -> RuleResult:
    return np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x))), OPS["softplus"].rule(x)[1]


@wrong_rule("softplus")
def softplus_has_the_gradient_of_tanh(x: Array) -> RuleResult:
    return OPS["softplus"].rule(x)[0], (lambda g: g * np.tanh(x),)


@wrong_rule("gelu")
def gelu_forgets_the_density(x: Array, *, approximate: str = "none") -> RuleResult:
    y, _ = OPS["gelu"].rule(x, approximate=approximate)
    return y, (lambda g: np.where(x == 0, g / 2, g * y / np.where(x == 0, 1, x)).astype(x.dtype),)


@wrong_rule("gelu", likely=VALUE_PROPERTY)
def gelu_is_always_the_approximation(x: Array, *, approximate: str = "none") -> RuleResult:
    return OPS["gelu"].rule(x, approximate="tanh")


@wrong_rule("gelu", likely=VALUE_PROPERTY)
def gelu_ignores_the_approximation(x: Array, *, approximate: str = "none") -> RuleResult:
    return OPS["gelu"].rule(x)


@wrong_rule("silu")
def silu_confuses_a_bracket(x: Array) -> RuleResult:
    s = OPS["sigmoid"].rule(x)[0]
    return x * s, (lambda g: g * s * (1 + x - s),)


@wrong_rule("silu")
def silu_forgets_the_gate(x: Array) -> RuleResult:
    s = OPS["sigmoid"].rule(x)[0]
    return x * s, (lambda g: g * s,)


@wrong_rule("abs")
def abs_is_flat_for_negative_numbers(x: Array) -> RuleResult:
    return np.abs(x), (lambda g: g * (x > 0),)


@wrong_rule("abs", likely=KINKS_PROPERTY)
def abs_is_steep_at_zero(x: Array) -> RuleResult:
    return np.abs(x), (lambda g: g * np.where(x == 0, -1.5, np.sign(x)).astype(x.dtype),)


@wrong_rule("relu", likely=KINKS_PROPERTY)
def relu_has_slope_two_at_zero(x: Array) -> RuleResult:
    return np.maximum(x, 0), (lambda g: g * np.where(x == 0, 2, x > 0).astype(x.dtype),)


@wrong_rule("relu")
def relu_looks_at_its_value_the_wrong_way(x: Array) -> RuleResult:
    y = np.maximum(x, 0)
    return y, (lambda g: g * (y >= 0),)


@wrong_rule("relu")
def relu_leaks(x: Array) -> RuleResult:
    return np.maximum(x, 0), (lambda g: g * np.where(x > 0, 1, 0.01).astype(x.dtype),)


@wrong_rule("relu", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def relu_drops_nan(x: Array) -> RuleResult:
    return np.where(x > 0, x, 0).astype(x.dtype), OPS["relu"].rule(x)[1]


def omit_pullbacks(y: Array) -> RuleResult:
    """Return the result of a rule without gradients."""
    return y, None


@wrong_rule("sign", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def sign_of_nan_is_zero(x: Array) -> RuleResult:
    return omit_pullbacks((x > 0).astype(x.dtype) - (x < 0).astype(x.dtype))


@wrong_rule("sign")
def sign_passes_the_gradient_straight_through(x: Array) -> RuleResult:
    return np.sign(x), (lambda g: g * (np.abs(x) <= 1),)


@wrong_rule("sign", likely=VALUE_PROPERTY)
def sign_has_no_zero(x: Array) -> RuleResult:
    return omit_pullbacks(np.copysign(np.ones_like(x), x))


@wrong_rule("sign", likely=VALUE_PROPERTY)
def sign_is_a_quotient(x: Array) -> RuleResult:
    return omit_pullbacks(x / np.abs(x))


@wrong_rule("sign", likely=VALUE_PROPERTY)
def sign_truncates_first(x: Array) -> RuleResult:
    return omit_pullbacks(np.sign(np.trunc(x)))


@wrong_rule("sign", likely=VALUE_PROPERTY)
def sign_has_a_dead_zone(x: Array) -> RuleResult:
    return omit_pullbacks(np.where(np.abs(x) < x.dtype.type(2e-3), 0, np.sign(x)).astype(x.dtype))


@wrong_rule("sign", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def sign_squares_first(x: Array) -> RuleResult:
    return omit_pullbacks((x * np.abs(x) / np.where(x == 0, 1, x * x)).astype(x.dtype))


@wrong_rule("negative", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def negative_turns_the_sign_of_nan_into_a_number(x: Array) -> RuleResult:
    return np.nan_to_num(-x), (lambda g: -g,)


@wrong_rule("negative", likely=VALUE_PROPERTY)
def negative_takes_the_size(x: Array) -> RuleResult:
    return -np.abs(x), (lambda g: -g,)


@wrong_rule(
    "gelu", likely=ELEMENTWISE_EXTREMES_PROPERTY, source="https://github.com/pytorch/executorch/issues/22323"
)
def gelu_takes_its_tanh_from_an_exp_that_overflows(x: Array, *, approximate: str = "none") -> RuleResult:
    y, pulls = OPS["gelu"].rule(x, approximate=approximate)
    if approximate == "none":
        return y, pulls
    e = np.exp(2 * np.sqrt(2 / np.pi).astype(x.dtype) * (x + x * x * x * x.dtype.type(0.044715)))
    return x * (1 + (e - 1) / (e + 1)) / 2, pulls


@wrong_rule("reciprocal", likely=ELEMENTWISE_EXTREMES_PROPERTY, is_16_bit=True)
def reciprocal_inverts_the_square(x: Array) -> RuleResult:
    """From x = 256 on, float16 cannot hold the square, though it holds the square of the inverse."""
    return 1 / x, (lambda g: -g * (1 / (x * x)),)
