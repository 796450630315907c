"""Faults of reductions: wrong denominators, ties, zeros, naive formulas, NaN left out."""

import math
from typing import Any

import numpy as np

from gradspec.reference import OPS
from gradspec.reference.axes import normalize_axes
from gradspec.reference.dispatch import unwrap
from tests.faults.fault import (
    EXTREMES_PROPERTY,
    KINKS_PROPERTY,
    SECOND_ORDER_PROPERTY,
    SYMMETRIES_PROPERTY,
    VALUE_PROPERTY,
    Array,
    RuleResult,
    apply_spec_rule,
)
from tests.faults.own import wrong_rule

Axis = Any


def keepdims_shape(x: Array, axis: Axis) -> tuple[int, ...]:
    """Return the shape of the value with keepdims=True."""
    axes = normalize_axes(axis, x.ndim)
    return tuple(1 if i in axes else n for i, n in enumerate(x.shape))


@wrong_rule("sum", likely=EXTREMES_PROPERTY)
def sum_leaves_out_nan(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    return np.nansum(x, axis=axis, keepdims=keepdims), OPS["sum"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong_rule("sum", likely=VALUE_PROPERTY)
def sum_leaves_out_the_last(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    last = (np.arange(x.size) == x.size - 1).reshape(x.shape)
    y = np.sum(np.where(last, 0, x).astype(x.dtype), axis=axis, keepdims=keepdims)
    return y, OPS["sum"].rule(x, axis=axis, keepdims=keepdims)[1]


def compute_in_float32(op: str, *xs: Array, **keywords: Any) -> tuple[Array, Any]:
    """Return the spec's value and pullback of 16-bit floats, computed in float32.

    The value is rounded once, the gradients by the engine.
    """
    y, pull = apply_spec_rule(op, *(x.astype(np.float32) for x in xs), **keywords)
    return y.astype(xs[0].dtype), lambda g: pull(g.astype(np.float32))


def sum_sequentially(x: Array, axis: Axis) -> Array:
    """Return the sum with keepdims=True, every partial sum rounded to the dtype of x."""
    axes = normalize_axes(axis, x.ndim)
    n = math.prod(x.shape[i] for i in axes)
    if not n:
        return np.zeros(keepdims_shape(x, axis), x.dtype)
    rows = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim)).reshape(*keepdims_shape(x, axis), n)
    return np.add.accumulate(rows, axis=-1, dtype=x.dtype)[..., -1]


@wrong_rule("sum", likely=VALUE_PROPERTY, is_16_bit=True)
def sum_adds_up_in_sixteen_bits(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y, pull = compute_in_float32("sum", x, axis=axis, keepdims=keepdims)
    return np.reshape(sum_sequentially(x, axis), y.shape), pull


@wrong_rule("mean", likely=VALUE_PROPERTY, is_16_bit=True)
def mean_adds_up_in_sixteen_bits(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y, pull = compute_in_float32("mean", x, axis=axis, keepdims=keepdims)
    return np.reshape(sum_sequentially(x, axis), y.shape) / x.dtype.type(x.size / max(y.size, 1)), pull


@wrong_rule("var", is_16_bit=True)
def var_adds_up_its_mean_in_sixteen_bits(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> RuleResult:
    y, _ = compute_in_float32("var", x, axis=axis, correction=correction, keepdims=keepdims)
    n = x.size / max(y.size, 1)
    centred = (x - sum_sequentially(x, axis) / x.dtype.type(n)).astype(np.float32)
    return y, (lambda g: np.reshape(g, keepdims_shape(x, axis)) * centred * np.float32(2 / (n - correction)),)


@wrong_rule("mean", likely=VALUE_PROPERTY)
def mean_divides_by_the_size_of_x(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y = np.sum(x, axis=axis, keepdims=keepdims) / max(x.size, 1)
    return np.asarray(y, x.dtype), OPS["mean"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong_rule("mean")
def mean_divides_its_gradient_by_the_size_of_x(
    x: Array, *, axis: Axis = None, keepdims: bool = False
) -> RuleResult:
    y, _ = OPS["mean"].rule(x, axis=axis, keepdims=keepdims)
    return y, (lambda g: np.broadcast_to(np.reshape(g, keepdims_shape(x, axis)), x.shape) / max(x.size, 1),)


@wrong_rule("mean")
def mean_has_the_gradient_of_a_sum(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y, _ = OPS["mean"].rule(x, axis=axis, keepdims=keepdims)
    return y, OPS["sum"].rule(x, axis=axis, keepdims=keepdims)[1]


def reduce_ignoring_nan(extreme: Any, x: Array, axis: Axis, keepdims: bool) -> Array:
    """Return an extreme of all elements but NaN; `extreme` is np.fmax or np.fmin."""
    return extreme.reduce(x, axis=axis, keepdims=keepdims)


def reduce_from_zero(op: str, x: Array, axis: Axis, keepdims: bool) -> Array:
    """Return an extreme that starts from 0."""
    return getattr(np, op)(x, axis=axis, keepdims=keepdims, initial=0)


@wrong_rule("max", likely=VALUE_PROPERTY)
def max_starts_from_zero(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    return reduce_from_zero("max", x, axis, keepdims), OPS["max"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong_rule("min", likely=VALUE_PROPERTY)
def min_starts_from_zero(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    return reduce_from_zero("min", x, axis, keepdims), OPS["min"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong_rule("max", likely=EXTREMES_PROPERTY)
def max_ignores_nan(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    _, pulls = OPS["max"].rule(x, axis=axis, keepdims=keepdims)
    return reduce_ignoring_nan(np.fmax, x, axis, keepdims), pulls


@wrong_rule("min", likely=EXTREMES_PROPERTY)
def min_ignores_nan(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    _, pulls = OPS["min"].rule(x, axis=axis, keepdims=keepdims)
    return reduce_ignoring_nan(np.fmin, x, axis, keepdims), pulls


@wrong_rule("min", likely=KINKS_PROPERTY)
def min_pays_every_winner(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y = np.min(x, axis=axis, keepdims=True)
    value = np.min(x, axis=axis, keepdims=keepdims)
    return np.reshape(y, np.shape(value)), (lambda g: np.reshape(g, y.shape) * (x == y),)


@wrong_rule("min")
def min_pays_the_largest(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y, _ = OPS["min"].rule(x, axis=axis, keepdims=keepdims)
    return y, OPS["max"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong_rule("max", likely=KINKS_PROPERTY)
def max_pays_nobody_at_a_tie(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y, (pull,) = OPS["max"].rule(x, axis=axis, keepdims=keepdims)  # type: ignore[misc]
    top = np.max(x, axis=axis, keepdims=True)
    alone = np.sum(x == top, axis=axis, keepdims=True) == 1
    return y, (lambda g: pull(g) * alone.astype(x.dtype),)  # type: ignore[misc]


@wrong_rule("prod")
def prod_knows_one_zero_only(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y, _ = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)
    others = np.prod(np.where(x == 0, 1, x), axis=axis, keepdims=True).astype(x.dtype)
    zeros = np.sum(x == 0, axis=axis, keepdims=True)
    d = np.where(zeros == 0, others / np.where(x == 0, 1, x), np.where(x == 0, others, 0))
    return y, (lambda g: np.reshape(g, others.shape) * d.astype(x.dtype),)


@wrong_rule(
    "prod",
    likely=SECOND_ORDER_PROPERTY,
    nests=True,
    source="https://github.com/pytorch/pytorch/issues/106789",
)
def prod_of_several_zeros_has_a_constant_gradient(
    x: Any, *, axis: Axis = None, keepdims: bool = False
) -> RuleResult:
    y, (pull,) = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)  # type: ignore[misc]
    several = np.sum(unwrap(x) == 0, axis=axis, keepdims=True) > 1
    return y, (lambda g: np.where(several, unwrap(pull(g)), pull(g)),)  # type: ignore[misc]


@wrong_rule("prod")
def prod_is_zero_where_a_factor_is(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y, (pull,) = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)  # type: ignore[misc]
    return y, (lambda g: pull(g) * (x != 0),)  # type: ignore[misc]


@wrong_rule("var", likely=VALUE_PROPERTY)
def var_ignores_the_correction(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> RuleResult:
    return OPS["var"].rule(x, axis=axis, keepdims=keepdims)


@wrong_rule("var")
def var_ignores_the_correction_in_its_gradient(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> RuleResult:
    y, _ = OPS["var"].rule(x, axis=axis, keepdims=keepdims, correction=correction)
    return y, OPS["var"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong_rule("var", likely=SYMMETRIES_PROPERTY)
def var_is_a_difference_of_squares(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> RuleResult:
    y, pulls = OPS["var"].rule(x, axis=axis, correction=correction, keepdims=keepdims)
    n = x.size / max(y.size, 1)
    mean = np.mean(x, axis=axis, keepdims=keepdims)
    squares = np.mean(x * x, axis=axis, keepdims=keepdims) - mean * mean
    return np.asarray(squares * n / (n - correction), x.dtype), pulls


@wrong_rule("var")
def var_forgets_the_mean_in_its_gradient(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> RuleResult:
    y, _ = OPS["var"].rule(x, axis=axis, correction=correction, keepdims=keepdims)
    n = x.size / max(y.size, 1)
    return y, (lambda g: np.reshape(g, keepdims_shape(x, axis)) * x * x.dtype.type(2 / (n - correction)),)


@wrong_rule("logsumexp", likely=EXTREMES_PROPERTY)
def logsumexp_overflows(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y = np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))
    return y, OPS["logsumexp"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong_rule("logsumexp", likely=EXTREMES_PROPERTY)
def logsumexp_subtracts_the_largest_of_all(
    x: Array, *, axis: Axis = None, keepdims: bool = False
) -> RuleResult:
    top = np.max(x, initial=-np.inf)
    y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=keepdims)) + top
    return np.asarray(y, x.dtype), OPS["logsumexp"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong_rule("logsumexp")
def logsumexp_has_the_gradient_of_max(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y, _ = OPS["logsumexp"].rule(x, axis=axis, keepdims=keepdims)
    return y, OPS["max"].rule(x, axis=axis, keepdims=keepdims)[1]


def find_extreme_index(op: str, x: Array, axis: int, keepdims: bool) -> Array:
    """Return the index of an extreme along one axis; `op` is "argmax" or "argmin"."""
    return getattr(np, op)(x, axis=axis, keepdims=keepdims)


@wrong_rule("argmax", likely=VALUE_PROPERTY)
def argmax_takes_the_last(x: Array, *, axis: int, keepdims: bool = False) -> RuleResult:
    return x.shape[axis] - 1 - find_extreme_index("argmax", np.flip(x, axis), axis, keepdims), None


@wrong_rule("argmax", likely=VALUE_PROPERTY)
def argmax_of_sizes(x: Array, *, axis: int, keepdims: bool = False) -> RuleResult:
    return find_extreme_index("argmax", np.abs(x), axis, keepdims), None


@wrong_rule("argmax", likely=EXTREMES_PROPERTY)
def argmax_ignores_nan(x: Array, *, axis: int, keepdims: bool = False) -> RuleResult:
    return find_extreme_index("argmax", np.where(np.isnan(x), -np.inf, x), axis, keepdims), None


@wrong_rule("argmax", likely=VALUE_PROPERTY)
def argmax_of_rounded_numbers(x: Array, *, axis: int, keepdims: bool = False) -> RuleResult:
    return find_extreme_index("argmax", x.astype(np.float16), axis, keepdims), None


@wrong_rule("argmax", likely=VALUE_PROPERTY)
def argmax_looks_at_sixteen_only(x: Array, *, axis: int, keepdims: bool = False) -> RuleResult:
    return find_extreme_index("argmax", np.take(x, range(min(x.shape[axis], 16)), axis), axis, keepdims), None


@wrong_rule("argmax", likely=VALUE_PROPERTY)
def argmax_counts_from_the_start_of_a_block_of_64(
    x: Array, *, axis: int, keepdims: bool = False
) -> RuleResult:
    return find_extreme_index("argmax", x, axis, keepdims) % 64, None


@wrong_rule("argmin", likely=VALUE_PROPERTY)
def argmin_takes_the_last(x: Array, *, axis: int, keepdims: bool = False) -> RuleResult:
    return x.shape[axis] - 1 - find_extreme_index("argmin", np.flip(x, axis), axis, keepdims), None


@wrong_rule("argmin", likely=VALUE_PROPERTY)
def argmin_is_argmax(x: Array, *, axis: int, keepdims: bool = False) -> RuleResult:
    return find_extreme_index("argmax", x, axis, keepdims), None


@wrong_rule("argmin", likely=EXTREMES_PROPERTY)
def argmin_ignores_nan(x: Array, *, axis: int, keepdims: bool = False) -> RuleResult:
    return find_extreme_index("argmin", np.where(np.isnan(x), np.inf, x), axis, keepdims), None


@wrong_rule("argmin", likely=VALUE_PROPERTY)
def argmin_of_rounded_numbers(x: Array, *, axis: int, keepdims: bool = False) -> RuleResult:
    return find_extreme_index("argmin", x.astype(np.float16), axis, keepdims), None
