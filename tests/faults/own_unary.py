"""Faults of elementwise ops of one argument: naive formulas, forgotten terms, the wrong array saved."""

import numpy as np

from faults.fault import EXTREMES_OF_ELEMENTS, KINKS, VALUE, Array, Made
from faults.own import wrong
from gradspec.reference import OPS


@wrong("exp")
def exp_saves_its_input(x: Array) -> Made:
    return np.exp(x), (lambda g: g * x,)


@wrong("expm1")
def expm1_saves_its_value(x: Array) -> Made:
    y = np.expm1(x)
    return y, (lambda g: g * y,)


@wrong("log")
def log_guards_against_zero(x: Array) -> Made:
    return np.log(x), (lambda g: g / (x + x.dtype.type(1e-6)),)


@wrong("log", likely=VALUE)
def log_adds_a_small_number(x: Array) -> Made:
    return np.log(x + x.dtype.type(1e-6)), (lambda g: g / x,)


@wrong("log1p")
def log1p_divides_by_x(x: Array) -> Made:
    return np.log1p(x), (lambda g: g / x,)


@wrong("sqrt")
def sqrt_saves_its_input(x: Array) -> Made:
    return np.sqrt(x), (lambda g: g / 2 / x,)


@wrong("sqrt")
def sqrt_adds_a_small_number(x: Array) -> Made:
    return np.sqrt(x), (lambda g: g / 2 / np.sqrt(x + x.dtype.type(1e-6)),)


@wrong("square")
def square_forgets_the_two(x: Array) -> Made:
    return x * x, (lambda g: g * x,)


@wrong("square")
def square_saves_its_value(x: Array) -> Made:
    return x * x, (lambda g: g * 2 * x * x,)


@wrong("reciprocal")
def reciprocal_forgets_a_factor(x: Array) -> Made:
    return 1 / x, (lambda g: -g / x,)


@wrong("sin")
def sin_is_its_own_derivative(x: Array) -> Made:
    y = np.sin(x)
    return y, (lambda g: g * y,)


@wrong("sin")
def sin_forgets_a_sign_past_a_quarter_turn(x: Array) -> Made:
    y = np.sin(x)
    return y, (lambda g: g * np.sqrt(1 - y * y),)


@wrong("cos")
def cos_forgets_the_minus(x: Array) -> Made:
    return np.cos(x), (lambda g: g * np.sin(x),)


@wrong("tanh", likely=VALUE)
def tanh_is_a_quotient_of_exponentials(x: Array) -> Made:
    y = (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))
    return y, OPS["tanh"].rule(x)[1]


@wrong("tanh")
def tanh_forgets_the_square(x: Array) -> Made:
    y = np.tanh(x)
    return y, (lambda g: g * (1 - y),)


@wrong("tanh")
def tanh_saves_its_input(x: Array) -> Made:
    return np.tanh(x), (lambda g: g * (1 - x * x),)


@wrong("sigmoid", likely=EXTREMES_OF_ELEMENTS)
def sigmoid_is_nan_for_large_numbers(x: Array) -> Made:
    y = np.exp(x) / (1 + np.exp(x))
    return y, OPS["sigmoid"].rule(x)[1]


@wrong("sigmoid", likely=EXTREMES_OF_ELEMENTS)
def sigmoid_whose_gradient_overflows(x: Array) -> Made:
    return OPS["sigmoid"].rule(x)[0], (lambda g: g * np.exp(-x) / (1 + np.exp(-x)) ** 2,)


@wrong("sigmoid")
def sigmoid_squares_its_value(x: Array) -> Made:
    y = OPS["sigmoid"].rule(x)[0]
    return y, (lambda g: g * y * y,)


@wrong("softplus", likely=EXTREMES_OF_ELEMENTS)
def softplus_overflows(x: Array) -> Made:
    return np.log(1 + np.exp(x)), OPS["softplus"].rule(x)[1]


@wrong("softplus", likely=VALUE)
def softplus_cancels_for_negative_numbers(x: Array) -> Made:
    return np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x))), OPS["softplus"].rule(x)[1]


@wrong("softplus")
def softplus_has_the_gradient_of_tanh(x: Array) -> Made:
    return OPS["softplus"].rule(x)[0], (lambda g: g * np.tanh(x),)


@wrong("gelu")
def gelu_forgets_the_density(x: Array, *, approximate: str = "none") -> Made:
    y, _ = OPS["gelu"].rule(x, approximate=approximate)
    return y, (lambda g: np.where(x == 0, g / 2, g * y / np.where(x == 0, 1, x)).astype(x.dtype),)


@wrong("gelu", likely=VALUE)
def gelu_is_always_the_approximation(x: Array, *, approximate: str = "none") -> Made:
    return OPS["gelu"].rule(x, approximate="tanh")


@wrong("gelu", likely=VALUE)
def gelu_ignores_the_approximation(x: Array, *, approximate: str = "none") -> Made:
    return OPS["gelu"].rule(x)


@wrong("silu")
def silu_confuses_a_bracket(x: Array) -> Made:
    s = OPS["sigmoid"].rule(x)[0]
    return x * s, (lambda g: g * s * (1 + x - s),)


@wrong("silu")
def silu_forgets_the_gate(x: Array) -> Made:
    s = OPS["sigmoid"].rule(x)[0]
    return x * s, (lambda g: g * s,)


@wrong("abs")
def abs_is_flat_for_negative_numbers(x: Array) -> Made:
    return np.abs(x), (lambda g: g * (x > 0),)


@wrong("abs", likely=KINKS)
def abs_is_steep_at_zero(x: Array) -> Made:
    return np.abs(x), (lambda g: g * np.where(x == 0, -1.5, np.sign(x)).astype(x.dtype),)


@wrong("relu", likely=KINKS)
def relu_has_slope_two_at_zero(x: Array) -> Made:
    return np.maximum(x, 0), (lambda g: g * np.where(x == 0, 2, x > 0).astype(x.dtype),)


@wrong("relu")
def relu_looks_at_its_value_the_wrong_way(x: Array) -> Made:
    y = np.maximum(x, 0)
    return y, (lambda g: g * (y >= 0),)


@wrong("relu")
def relu_leaks(x: Array) -> Made:
    return np.maximum(x, 0), (lambda g: g * np.where(x > 0, 1, 0.01).astype(x.dtype),)


@wrong("relu", likely=EXTREMES_OF_ELEMENTS)
def relu_drops_nan(x: Array) -> Made:
    return np.where(x > 0, x, 0).astype(x.dtype), OPS["relu"].rule(x)[1]


def valued(y: Array) -> Made:
    return y, None


@wrong("sign", likely=EXTREMES_OF_ELEMENTS)
def sign_of_nan_is_zero(x: Array) -> Made:
    return valued((x > 0).astype(x.dtype) - (x < 0).astype(x.dtype))


@wrong("sign")
def sign_passes_the_gradient_straight_through(x: Array) -> Made:
    return np.sign(x), (lambda g: g * (np.abs(x) <= 1),)


@wrong("sign", likely=VALUE)
def sign_has_no_zero(x: Array) -> Made:
    return valued(np.copysign(np.ones_like(x), x))


@wrong("sign", likely=VALUE)
def sign_is_a_quotient(x: Array) -> Made:
    return valued(x / np.abs(x))


@wrong("sign", likely=VALUE)
def sign_truncates_first(x: Array) -> Made:
    return valued(np.sign(np.trunc(x)))


@wrong("sign", likely=VALUE)
def sign_has_a_dead_zone(x: Array) -> Made:
    return valued(np.where(np.abs(x) < x.dtype.type(2e-3), 0, np.sign(x)).astype(x.dtype))


@wrong("sign", likely=EXTREMES_OF_ELEMENTS)
def sign_squares_first(x: Array) -> Made:
    return valued((x * np.abs(x) / np.where(x == 0, 1, x * x)).astype(x.dtype))


@wrong("negative", likely=EXTREMES_OF_ELEMENTS)
def negative_turns_the_sign_of_nan_into_a_number(x: Array) -> Made:
    return np.nan_to_num(-x), (lambda g: -g,)


@wrong("negative", likely=VALUE)
def negative_takes_the_size(x: Array) -> Made:
    return -np.abs(x), (lambda g: -g,)


@wrong("gelu", likely=EXTREMES_OF_ELEMENTS, source="https://github.com/pytorch/executorch/issues/22323")
def gelu_takes_its_tanh_from_an_exp_that_overflows(x: Array, *, approximate: str = "none") -> Made:
    y, pulls = OPS["gelu"].rule(x, approximate=approximate)
    if approximate == "none":
        return y, pulls
    e = np.exp(2 * np.sqrt(2 / np.pi).astype(x.dtype) * (x + x * x * x * x.dtype.type(0.044715)))
    return x * (1 + (e - 1) / (e + 1)) / 2, pulls


@wrong("reciprocal", likely=EXTREMES_OF_ELEMENTS, sixteen=True)
def reciprocal_inverts_the_square(x: Array) -> Made:
    """Which float16 does not hold from 256 on, though it holds the square of the inverse."""
    return 1 / x, (lambda g: -g * (1 / (x * x)),)
