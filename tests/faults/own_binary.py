"""Faults of elementwise ops of two and three arguments: ties, NaN, bounds, comparisons."""

import numpy as np

from gradspec.reference import OPS
from tests.faults.fault import (
    ELEMENTWISE_EXTREMES_PROPERTY,
    EXTREMES_PROPERTY,
    KINKS_PROPERTY,
    VALUE_PROPERTY,
    Array,
    RuleResult,
)
from tests.faults.own import apply_pullbacks, wrong_rule


@wrong_rule("add", likely=VALUE_PROPERTY)
def add_saturates(x: Array, y: Array) -> RuleResult:
    return np.clip(x + y, -2, 2), (lambda g: g, lambda g: g)


@wrong_rule("subtract")
def subtract_forgets_the_minus(x: Array, y: Array) -> RuleResult:
    return x - y, (lambda g: g, lambda g: g)


@wrong_rule("subtract")
def subtract_is_of_y_and_x(x: Array, y: Array) -> RuleResult:
    return x - y, (lambda g: -g, lambda g: g)


@wrong_rule("multiply")
def multiply_adds_its_factors(x: Array, y: Array) -> RuleResult:
    return x * y, (lambda g: g * y, lambda g: g * (x + y))


@wrong_rule("multiply")
def multiply_of_equal_factors_is_a_square(x: Array, y: Array) -> RuleResult:
    twice = 2 if np.array_equal(x, y) and x.size > 1 else 1
    return x * y, (lambda g: twice * g * y, lambda g: g * x)


@wrong_rule("divide", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def divide_squares_the_divisor(x: Array, y: Array) -> RuleResult:
    return x / y, (lambda g: g / y, lambda g: -g * x / (y * y))


@wrong_rule("divide")
def divide_forgets_a_factor(x: Array, y: Array) -> RuleResult:
    return x / y, (lambda g: g / y, lambda g: -g * x / y)


@wrong_rule("divide")
def divide_guards_against_zero(x: Array, y: Array) -> RuleResult:
    return x / y, (lambda g: g / (y + y.dtype.type(1e-6)), lambda g: -g / y * (x / y))


@wrong_rule("pow")
def pow_forgets_to_lower_the_exponent(x: Array, y: Array) -> RuleResult:
    z, (_, to_y) = OPS["pow"].rule(x, y)  # type: ignore[misc]
    return z, (lambda g: g * y * z, to_y)


@wrong_rule("pow")
def pow_has_a_constant_exponent(x: Array, y: Array) -> RuleResult:
    z, (to_x, _) = OPS["pow"].rule(x, y)  # type: ignore[misc]
    return z, (to_x, np.zeros_like)


@wrong_rule("pow")
def pow_takes_log_of_one_and_x(x: Array, y: Array) -> RuleResult:
    z, (to_x, _) = OPS["pow"].rule(x, y)  # type: ignore[misc]
    return z, (to_x, lambda g: g * z * np.log1p(x))


@wrong_rule("maximum", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def maximum_ignores_nan(x: Array, y: Array) -> RuleResult:
    return np.fmax(x, y), OPS["maximum"].rule(x, y)[1]


@wrong_rule("minimum", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def minimum_ignores_nan(x: Array, y: Array) -> RuleResult:
    return np.fmin(x, y), OPS["minimum"].rule(x, y)[1]


@wrong_rule("maximum", likely=KINKS_PROPERTY)
def maximum_pays_twice_at_a_tie(x: Array, y: Array) -> RuleResult:
    return np.maximum(x, y), (lambda g: g * (x >= y), lambda g: g * (y >= x))


@wrong_rule("maximum", likely=KINKS_PROPERTY)
def maximum_pays_nobody_at_a_tie(x: Array, y: Array) -> RuleResult:
    return np.maximum(x, y), (lambda g: g * (x > y), lambda g: g * (y > x))


@wrong_rule("minimum", likely=KINKS_PROPERTY)
def minimum_pays_twice_at_a_tie(x: Array, y: Array) -> RuleResult:
    return np.minimum(x, y), (lambda g: g * (x <= y), lambda g: g * (y <= x))


@wrong_rule("minimum")
def minimum_pays_the_larger(x: Array, y: Array) -> RuleResult:
    return np.minimum(x, y), OPS["maximum"].rule(x, y)[1]


@wrong_rule("where")
def where_pays_both(condition: Array, x: Array, y: Array) -> RuleResult:
    return np.where(condition, x, y), (None, lambda g: g, lambda g: g)


@wrong_rule("where")
def where_confuses_its_branches(condition: Array, x: Array, y: Array) -> RuleResult:
    y_, (_, to_x, to_y) = OPS["where"].rule(condition, x, y)  # type: ignore[misc]
    return y_, (None, to_y, to_x)


@wrong_rule("where", likely=EXTREMES_PROPERTY)
def where_value_multiplies_by_its_mask(condition: Array, x: Array, y: Array) -> RuleResult:
    return (condition * x + ~condition * y).astype(x.dtype), OPS["where"].rule(condition, x, y)[1]


def make_infinite_bound(x: Array) -> Array:
    return np.asarray(np.inf, x.dtype)


@wrong_rule("clip")
def clip_passes_everything(x: Array, min: Array, max: Array | None = None) -> RuleResult:  # noqa: A002
    max = make_infinite_bound(x) if max is None else max  # noqa: A001
    y, pulls = OPS["clip"].rule(x, min, max)
    return y, lambda g: [g, *apply_pullbacks(pulls, g)[1:]]


@wrong_rule("clip")
def clip_gives_its_bounds_nothing(x: Array, min: Array, max: Array | None = None) -> RuleResult:  # noqa: A002
    max = make_infinite_bound(x) if max is None else max  # noqa: A001
    y, pulls = OPS["clip"].rule(x, min, max)
    return y, lambda g: [apply_pullbacks(pulls, g)[0], np.zeros_like(g), np.zeros_like(g)]


@wrong_rule("clip", likely=VALUE_PROPERTY)
def clip_takes_bounds_to_lie_on_both_sides_of_zero(
    x: Array,
    min: Array,  # noqa: A002
    max: Array | None = None,  # noqa: A002
) -> RuleResult:
    y, pulls = OPS["clip"].rule(x, np.minimum(min, 0), max if max is None else np.maximum(max, 0))
    return y, pulls


@wrong_rule("clip", likely=KINKS_PROPERTY)
def clip_pays_twice_on_a_bound(x: Array, min: Array, max: Array | None = None) -> RuleResult:  # noqa: A002
    max = make_infinite_bound(x) if max is None else max  # noqa: A001
    y, pulls = OPS["clip"].rule(x, min, max)
    on_bound = (x == min) | (x == max)
    return y, lambda g: [d * (1 + on_bound).astype(d.dtype) for d in apply_pullbacks(pulls, g)]


# Comparisons


@wrong_rule("equal", likely=VALUE_PROPERTY)
def equal_is_nearly_equal(x: Array, y: Array) -> RuleResult:
    return np.isclose(x, y, rtol=1e-2, atol=5e-3), None


@wrong_rule("equal", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def equal_takes_nan_for_itself(x: Array, y: Array) -> RuleResult:
    return np.equal(x, y) | (np.isnan(x) & np.isnan(y)), None


@wrong_rule("equal", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def equal_subtracts(x: Array, y: Array) -> RuleResult:
    return (x - y) == 0, None


@wrong_rule("equal", likely=VALUE_PROPERTY)
def equal_truncates(x: Array, y: Array) -> RuleResult:
    return np.equal(np.trunc(x), np.trunc(y)), None


@wrong_rule("equal", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def equal_compares_bits(x: Array, y: Array) -> RuleResult:
    return np.equal(x, y) & (np.signbit(x) == np.signbit(y)), None


@wrong_rule("less", likely=VALUE_PROPERTY)
def less_or_equal(x: Array, y: Array) -> RuleResult:
    return np.less_equal(x, y), None


@wrong_rule("less", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def less_is_not_greater_or_equal(x: Array, y: Array) -> RuleResult:
    return ~np.greater_equal(x, y), None


@wrong_rule("less", likely=VALUE_PROPERTY)
def less_is_greater(x: Array, y: Array) -> RuleResult:
    return np.greater(x, y), None


@wrong_rule("less", likely=VALUE_PROPERTY)
def less_compares_sizes(x: Array, y: Array) -> RuleResult:
    return np.less(np.abs(x), np.abs(y)), None


@wrong_rule("greater", likely=VALUE_PROPERTY)
def greater_or_equal(x: Array, y: Array) -> RuleResult:
    return np.greater_equal(x, y), None


@wrong_rule("greater", likely=ELEMENTWISE_EXTREMES_PROPERTY)
def greater_is_not_less_or_equal(x: Array, y: Array) -> RuleResult:
    return ~np.less_equal(x, y), None


@wrong_rule("greater", likely=VALUE_PROPERTY)
def greater_of_rounded_numbers(x: Array, y: Array) -> RuleResult:
    return np.greater(x.astype(np.float16), y.astype(np.float16)), None


@wrong_rule("greater", likely=VALUE_PROPERTY)
def greater_compares_sizes(x: Array, y: Array) -> RuleResult:
    return np.greater(np.abs(x), np.abs(y)), None
