"""Faults of reductions: denominators, ties, zeros, naive formulas, NaN left out."""

import math
from typing import Any

import numpy as np

from faults.fault import EXTREMES, KINKS, SECOND_ORDER, SYMMETRIES, VALUE, Array, Made, pullbacks
from faults.own import wrong
from gradspec.reference import OPS
from gradspec.reference.axes import normalize_axes
from gradspec.reference.dispatch import plain

Axis = Any


def kept(x: Array, axis: Axis) -> tuple[int, ...]:
    """The shape of the value with the reduced axes kept."""
    axes = normalize_axes(axis, x.ndim)
    return tuple(1 if i in axes else n for i, n in enumerate(x.shape))


@wrong("sum", likely=EXTREMES)
def sum_leaves_out_nan(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    return np.nansum(x, axis=axis, keepdims=keepdims), OPS["sum"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong("sum", likely=VALUE)
def sum_leaves_out_the_last(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    last = (np.arange(x.size) == x.size - 1).reshape(x.shape)
    y = np.sum(np.where(last, 0, x).astype(x.dtype), axis=axis, keepdims=keepdims)
    return y, OPS["sum"].rule(x, axis=axis, keepdims=keepdims)[1]


def in_float32(op: str, *xs: Array, **keywords: Any) -> tuple[Array, Any]:
    """What the spec makes of 16-bit floats: in float32, rounded once; the engine rounds the gradients."""
    y, pulled = pullbacks(op, *(x.astype(np.float32) for x in xs), **keywords)
    return y.astype(xs[0].dtype), lambda g: pulled(g.astype(np.float32))


def added_in_turn(x: Array, axis: Axis) -> Array:
    """The sum, every partial sum rounded to the dtype of x; the axes are kept."""
    axes = normalize_axes(axis, x.ndim)
    n = math.prod(x.shape[i] for i in axes)
    rows = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim)).reshape(*kept(x, axis), n)
    return np.add.accumulate(rows, axis=-1, dtype=x.dtype)[..., -1] if n else np.zeros(kept(x, axis), x.dtype)


@wrong("sum", likely=VALUE, sixteen=True)
def sum_adds_up_in_sixteen_bits(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y, pulled = in_float32("sum", x, axis=axis, keepdims=keepdims)
    return np.reshape(added_in_turn(x, axis), y.shape), pulled


@wrong("mean", likely=VALUE, sixteen=True)
def mean_adds_up_in_sixteen_bits(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y, pulled = in_float32("mean", x, axis=axis, keepdims=keepdims)
    return np.reshape(added_in_turn(x, axis), y.shape) / x.dtype.type(x.size / max(y.size, 1)), pulled


@wrong("var", sixteen=True)
def var_adds_up_its_mean_in_sixteen_bits(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> Made:
    y, _ = in_float32("var", x, axis=axis, correction=correction, keepdims=keepdims)
    n = x.size / max(y.size, 1)
    centred = (x - added_in_turn(x, axis) / x.dtype.type(n)).astype(np.float32)
    return y, (lambda g: np.reshape(g, kept(x, axis)) * centred * np.float32(2 / (n - correction)),)


@wrong("mean", likely=VALUE)
def mean_divides_by_the_size_of_x(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y = np.sum(x, axis=axis, keepdims=keepdims) / max(x.size, 1)
    return np.asarray(y, x.dtype), OPS["mean"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong("mean")
def mean_divides_its_gradient_by_the_size_of_x(
    x: Array, *, axis: Axis = None, keepdims: bool = False
) -> Made:
    y, _ = OPS["mean"].rule(x, axis=axis, keepdims=keepdims)
    return y, (lambda g: np.broadcast_to(np.reshape(g, kept(x, axis)), x.shape) / max(x.size, 1),)


@wrong("mean")
def mean_has_the_gradient_of_a_sum(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y, _ = OPS["mean"].rule(x, axis=axis, keepdims=keepdims)
    return y, OPS["sum"].rule(x, axis=axis, keepdims=keepdims)[1]


def spared(extreme: Any, x: Array, axis: Axis, keepdims: bool) -> Array:
    """An extreme of all that is not NaN."""
    return extreme.reduce(x, axis=axis, keepdims=keepdims)


def of_zero_and_more(op: str, x: Array, axis: Axis, keepdims: bool) -> Array:
    """An extreme that starts from 0."""
    return getattr(np, op)(x, axis=axis, keepdims=keepdims, initial=0)


@wrong("max", likely=VALUE)
def max_starts_from_zero(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    return of_zero_and_more("max", x, axis, keepdims), OPS["max"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong("min", likely=VALUE)
def min_starts_from_zero(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    return of_zero_and_more("min", x, axis, keepdims), OPS["min"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong("max", likely=EXTREMES)
def max_ignores_nan(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    return spared(np.fmax, x, axis, keepdims), OPS["max"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong("min", likely=EXTREMES)
def min_ignores_nan(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    return spared(np.fmin, x, axis, keepdims), OPS["min"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong("min", likely=KINKS)
def min_pays_every_winner(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y = np.min(x, axis=axis, keepdims=True)
    return np.reshape(y, np.shape(np.min(x, axis=axis, keepdims=keepdims))), (
        lambda g: np.reshape(g, y.shape) * (x == y),
    )


@wrong("min")
def min_pays_the_largest(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    return OPS["min"].rule(x, axis=axis, keepdims=keepdims)[0], OPS["max"].rule(
        x, axis=axis, keepdims=keepdims
    )[1]


@wrong("max", likely=KINKS)
def max_pays_nobody_at_a_tie(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y, (pull,) = OPS["max"].rule(x, axis=axis, keepdims=keepdims)  # type: ignore[misc]
    top = np.max(x, axis=axis, keepdims=True)
    alone = np.sum(x == top, axis=axis, keepdims=True) == 1
    return y, (lambda g: pull(g) * alone.astype(x.dtype),)  # type: ignore[misc]


@wrong("prod")
def prod_knows_one_zero_only(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y, _ = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)
    others = np.prod(np.where(x == 0, 1, x), axis=axis, keepdims=True).astype(x.dtype)
    zeros = np.sum(x == 0, axis=axis, keepdims=True)
    d = np.where(zeros == 0, others / np.where(x == 0, 1, x), np.where(x == 0, others, 0))
    return y, (lambda g: np.reshape(g, others.shape) * d.astype(x.dtype),)


@wrong("prod", likely=SECOND_ORDER, nests=True, source="https://github.com/pytorch/pytorch/issues/106789")
def prod_of_several_zeros_has_a_constant_gradient(
    x: Any, *, axis: Axis = None, keepdims: bool = False
) -> Made:
    y, (pull,) = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)  # type: ignore[misc]
    several = np.sum(plain(x) == 0, axis=axis, keepdims=True) > 1
    return y, (lambda g: np.where(several, plain(pull(g)), pull(g)),)  # type: ignore[misc]


@wrong("prod")
def prod_is_zero_where_a_factor_is(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y, (pull,) = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)  # type: ignore[misc]
    return y, (lambda g: pull(g) * (x != 0),)  # type: ignore[misc]


@wrong("var", likely=VALUE)
def var_ignores_the_correction(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> Made:
    return OPS["var"].rule(x, axis=axis, keepdims=keepdims)


@wrong("var")
def var_ignores_the_correction_in_its_gradient(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> Made:
    y, _ = OPS["var"].rule(x, axis=axis, keepdims=keepdims, correction=correction)
    return y, OPS["var"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong("var", likely=SYMMETRIES)
def var_is_a_difference_of_squares(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> Made:
    y, pulls = OPS["var"].rule(x, axis=axis, correction=correction, keepdims=keepdims)
    n = x.size / max(y.size, 1)
    mean = np.mean(x, axis=axis, keepdims=keepdims)
    squares = np.mean(x * x, axis=axis, keepdims=keepdims) - mean * mean
    return np.asarray(squares * n / (n - correction), x.dtype), pulls


@wrong("var")
def var_forgets_the_mean_in_its_gradient(
    x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False
) -> Made:
    y, _ = OPS["var"].rule(x, axis=axis, correction=correction, keepdims=keepdims)
    n = x.size / max(y.size, 1)
    return y, (lambda g: np.reshape(g, kept(x, axis)) * x * x.dtype.type(2 / (n - correction)),)


@wrong("logsumexp", likely=EXTREMES)
def logsumexp_overflows(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y = np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))
    return y, OPS["logsumexp"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong("logsumexp", likely=EXTREMES)
def logsumexp_subtracts_the_largest_of_all(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    top = np.max(x, initial=-np.inf)
    y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=keepdims)) + top
    return np.asarray(y, x.dtype), OPS["logsumexp"].rule(x, axis=axis, keepdims=keepdims)[1]


@wrong("logsumexp")
def logsumexp_has_the_gradient_of_max(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    y, _ = OPS["logsumexp"].rule(x, axis=axis, keepdims=keepdims)
    return y, OPS["max"].rule(x, axis=axis, keepdims=keepdims)[1]


def placed(op: str, x: Array, axis: int, keepdims: bool) -> Array:
    """The index of an extreme along one axis."""
    return getattr(np, op)(x, axis=axis, keepdims=keepdims)


@wrong("argmax", likely=VALUE)
def argmax_takes_the_last(x: Array, *, axis: int, keepdims: bool = False) -> Made:
    return x.shape[axis] - 1 - placed("argmax", np.flip(x, axis), axis, keepdims), None


@wrong("argmax", likely=VALUE)
def argmax_of_sizes(x: Array, *, axis: int, keepdims: bool = False) -> Made:
    return placed("argmax", np.abs(x), axis, keepdims), None


@wrong("argmax", likely=EXTREMES)
def argmax_ignores_nan(x: Array, *, axis: int, keepdims: bool = False) -> Made:
    return placed("argmax", np.where(np.isnan(x), -np.inf, x), axis, keepdims), None


@wrong("argmax", likely=VALUE)
def argmax_of_rounded_numbers(x: Array, *, axis: int, keepdims: bool = False) -> Made:
    return placed("argmax", x.astype(np.float16), axis, keepdims), None


@wrong("argmax", likely=VALUE)
def argmax_looks_at_sixteen_only(x: Array, *, axis: int, keepdims: bool = False) -> Made:
    return placed("argmax", np.take(x, range(min(x.shape[axis], 16)), axis), axis, keepdims), None


@wrong("argmax", likely=VALUE)
def argmax_counts_from_the_start_of_a_block_of_64(x: Array, *, axis: int, keepdims: bool = False) -> Made:
    return placed("argmax", x, axis, keepdims) % 64, None


@wrong("argmin", likely=VALUE)
def argmin_takes_the_last(x: Array, *, axis: int, keepdims: bool = False) -> Made:
    return x.shape[axis] - 1 - placed("argmin", np.flip(x, axis), axis, keepdims), None


@wrong("argmin", likely=VALUE)
def argmin_is_argmax(x: Array, *, axis: int, keepdims: bool = False) -> Made:
    return placed("argmax", x, axis, keepdims), None


@wrong("argmin", likely=EXTREMES)
def argmin_ignores_nan(x: Array, *, axis: int, keepdims: bool = False) -> Made:
    return placed("argmin", np.where(np.isnan(x), np.inf, x), axis, keepdims), None


@wrong("argmin", likely=VALUE)
def argmin_of_rounded_numbers(x: Array, *, axis: int, keepdims: bool = False) -> Made:
    return placed("argmin", x.astype(np.float16), axis, keepdims), None
