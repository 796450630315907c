"""Reductions over axes.

`axis` is None (all axes), an integer or a tuple, negative or not; with `keepdims` reduced axes stay, of
length 1. As in torch, an array of no dimensions may be reduced along 0 or -1 and stays as it is: the sum of a
number is the number. No property draws that, since the Array API standard has no such axis: a library may
refuse it.
"""

import math
from typing import Any

import numpy as np

from gradspec.reference.axes import Axes, fit_axes, normalize_axes
from gradspec.reference.calls import (
    Call,
    Choices,
    draw_axis,
    draw_nonempty_reduction,
    draw_reduction,
    draw_shape,
)
from gradspec.reference.declaration import op
from gradspec.reference.domains import Real
from gradspec.reference.kink_distances import extreme_ties
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array
from gradspec.reference.softmax import constant_exp, log_of_sum, share


def _count_reduced(x: Array, axis: Axes) -> int:
    """Return from how many elements of x each element of the value is computed."""
    return math.prod(x.shape[i] for i in normalize_axes(axis, x.ndim))


def reduced_shape(x: Array, axis: Axes, keepdims: bool) -> tuple[int, ...]:
    """Return the shape of a reduction of x over these axes."""
    axes = normalize_axes(axis, x.ndim)
    return tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes)


def _restore_axes(g: Array, x: Array, axis: Axes) -> Array:
    """Return the cotangent with the reduced axes of x back in place, of length 1."""
    return np.reshape(g, reduced_shape(x, axis, True))


def _share_among_extremes(g: Array, x: Array, y: Array, axis: Axes) -> Array:
    """Return the cotangent of an extreme y, shared equally among all elements of x that equal it."""
    is_extreme = x == _restore_axes(y, x, axis)
    count = np.sum(is_extreme, axis=axis, keepdims=True).astype(x.dtype)
    return np.where(is_extreme, _restore_axes(g, x, axis) / count, 0)


def _products_of_others(x: Array, axis: Axes) -> Array:
    """Return for each element the product of all others along the axes.

    There is no division, so it is right with any number of zeros.
    """
    axes = normalize_axes(axis, x.ndim)
    order = (*(i for i in range(x.ndim) if i not in axes), *axes)
    permuted = np.permute_dims(x, order)
    rows = np.reshape(permuted, (*permuted.shape[: x.ndim - len(axes)], _count_reduced(x, axis)))
    others = _products_before(rows) * np.flip(_products_before(np.flip(rows, axis=-1)), axis=-1)
    return np.permute_dims(np.reshape(others, permuted.shape), tuple(np.argsort(order)))


@record
def _ones(x: Array) -> VJP:
    return np.ones_like(x), None


def _products_before(x: Array) -> Array:
    """Return for each element the product of those before it on the last axis.

    It takes log2(n) steps (Hillis and Steele, 1986).
    """
    ones = _ones(x)
    y = np.concat([ones[..., :1], x[..., :-1]], axis=-1)
    step = 1
    while step < x.shape[-1]:
        y = y * np.concat([ones[..., :step], y[..., :-step]], axis=-1)
        step *= 2
    return y


@op(draw_reduction)
def sum(x: Real, *, axis: Axes = None, keepdims: bool = False) -> VJP:
    axis = fit_axes(axis, x.ndim)
    y = np.sum(x, axis=axis, keepdims=keepdims)
    return y, (lambda g: np.broadcast_to(_restore_axes(g, x, axis), x.shape),)


@op(draw_nonempty_reduction)
def mean(x: Real, *, axis: Axes = None, keepdims: bool = False) -> VJP:
    axis = fit_axes(axis, x.ndim)
    n = _count_reduced(x, axis)
    y = np.sum(x, axis=axis, keepdims=keepdims) / n
    return y, (lambda g: np.broadcast_to(_restore_axes(g / n, x, axis), x.shape),)


@op(draw_nonempty_reduction, kinks=extreme_ties(1))
def max(x: Real, *, axis: Axes = None, keepdims: bool = False) -> VJP:
    axis = fit_axes(axis, x.ndim)
    y = np.max(x, axis=axis, keepdims=keepdims)
    return y, (lambda g: _share_among_extremes(g, x, y, axis),)


@op(draw_nonempty_reduction, kinks=extreme_ties(-1))
def min(x: Real, *, axis: Axes = None, keepdims: bool = False) -> VJP:
    axis = fit_axes(axis, x.ndim)
    y = np.min(x, axis=axis, keepdims=keepdims)
    return y, (lambda g: _share_among_extremes(g, x, y, axis),)


@op(draw_reduction)
def prod(x: Real, *, axis: Axes = None, keepdims: bool = False) -> VJP:
    axis = fit_axes(axis, x.ndim)
    y = np.prod(x, axis=axis, keepdims=keepdims)
    return y, (lambda g: _restore_axes(g, x, axis) * _products_of_others(x, axis),)


def _draw_var(choose: Choices) -> Call:
    call = draw_nonempty_reduction(choose)
    x: Any = call.shapes[0]
    n = _count_reduced(np.empty(x), call.keywords["axis"])
    return Call(call.shapes, {**call.keywords, "correction": choose.of([c for c in (0, 1, 0.5) if c < n])})


@op(_draw_var)
def var(x: Real, *, axis: Axes = None, correction: float = 0, keepdims: bool = False) -> VJP:
    """Return the sum of squared distances from the mean over max(n - correction, 0), in two passes."""
    axis = fit_axes(axis, x.ndim)
    n = _count_reduced(x, axis)
    degrees_of_freedom = n - correction if n > correction else 0
    # Less itself, one element is 0; less x / 1, it need not be.
    centred = x - (x if n == 1 else np.sum(x, axis=axis, keepdims=True) / n)
    y = np.sum(centred * centred, axis=axis, keepdims=keepdims) / degrees_of_freedom
    return y, (lambda g: _restore_axes(g, x, axis) * centred * 2 / degrees_of_freedom,)


@record
def finite_max(x: Array, *, axis: Axes) -> VJP:
    """Return the largest element along the axes, or 0 where it is infinite or there is none.

    It is subtracted before exp so that nothing overflows. It has no pullback: whatever is subtracted is added
    again later, so that for the derivative it is a constant.
    """
    if not (x.size or _count_reduced(x, axis)):
        return np.zeros_like(x, shape=reduced_shape(x, axis, True)), None
    top = np.max(x, axis=axis, keepdims=True)
    return np.where(np.isfinite(top), top, 0), None


def _log_of_the_sum(x: Real, *, axis: Axes = None, keepdims: bool = False) -> VJP:
    top = finite_max(x, axis=axis)
    with np.errstate(divide="ignore"):  # log 0, where every term is exp(-inf)
        y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    finite = np.where(y == -np.inf, 0, y)
    return np.reshape(y, reduced_shape(x, axis, keepdims)), (
        lambda g: _restore_axes(g, x, axis) * np.exp(x - finite),
    )


@op(draw_nonempty_reduction, also=(_log_of_the_sum,))
def logsumexp(x: Real, *, axis: Axes = None, keepdims: bool = False) -> VJP:
    axis = fit_axes(axis, x.ndim)
    top = finite_max(x, axis=axis)
    shifted = x - top
    e = constant_exp(shifted)
    y = log_of_sum(e, shifted, axis=axis) + top

    def pull(g: Array) -> Array:
        total = np.sum(e, axis=axis, keepdims=True)
        # Where every term is exp(-inf), the total is 0 and so is the gradient.
        return _restore_axes(g, x, axis) * share(x, e, total + (total == 0), axis=axis)

    return np.reshape(y, reduced_shape(x, axis, keepdims)), (pull,)


def _draw_arg_reduction(choose: Choices) -> Call:
    x = draw_shape(choose)
    axis = choose.of([draw_axis(choose, len(x))] * 3 + [None]) if x else None
    axes = normalize_axes(axis, len(x))
    x = tuple(n or 1 if i in axes else n for i, n in enumerate(x))
    return Call((x,), {"axis": axis, "keepdims": choose.of([False, True])})


def _fit_axis(axis: int | None, ndim: int) -> int | None:
    """Return the axis for NumPy's argmax, which takes no tuple: of no dimensions, None."""
    if ndim or axis is None:
        return axis
    normalize_axes(axis, ndim)
    return None


@op(_draw_arg_reduction, kinks=extreme_ties(1))
def argmax(x: Real, *, axis: int | None = None, keepdims: bool = False) -> VJP:
    return np.argmax(x, axis=_fit_axis(axis, x.ndim), keepdims=keepdims), None


@op(_draw_arg_reduction, kinks=extreme_ties(-1))
def argmin(x: Real, *, axis: int | None = None, keepdims: bool = False) -> VJP:
    return np.argmin(x, axis=_fit_axis(axis, x.ndim), keepdims=keepdims), None
