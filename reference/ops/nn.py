"""Layers and losses of neural networks."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from gradspec.reference.arrays import as_array
from gradspec.reference.axes import fit_axes
from gradspec.reference.calls import Call, Choices, IntegerArrayBelow, draw_along_axis, draw_shape
from gradspec.reference.declaration import op
from gradspec.reference.domains import Index, Real
from gradspec.reference.layer_norm import (
    MAX_BLOCK_ELEMENTS,
    layer_norm_in_blocks,
    pull_normalized,
    standardize,
)
from gradspec.reference.ops.reductions import finite_max, logsumexp
from gradspec.reference.rule import VJP, Array
from gradspec.reference.softmax import balance, constant_exp, log_of_sum, pull_share, share


def _share_less_its_mean(x: Real, *, axis: int = -1) -> VJP:
    axis = fit_axes(axis, x.ndim)
    e = np.exp(x - finite_max(x, axis=axis))
    y = e / np.sum(e, axis=axis, keepdims=True)
    return y, (lambda g: y * (g - np.sum(g * y, axis=axis, keepdims=True)),)


def _exp_less_logsumexp(x: Real, *, axis: int = -1) -> VJP:
    y = np.exp(x - logsumexp.usual_forms[0](x, axis=axis, keepdims=True))
    return y, (lambda g: y * (g - np.sum(g * y, axis=fit_axes(axis, x.ndim), keepdims=True)),)


@op(draw_along_axis, also=(_share_less_its_mean, _exp_less_logsumexp))
def softmax(x: Real, *, axis: int = -1) -> VJP:
    axis = fit_axes(axis, x.ndim)
    e = constant_exp(x - finite_max(x, axis=axis))
    y = share(x, e, np.sum(e, axis=axis, keepdims=True), axis=axis)
    return y, (lambda g: pull_share(g, y, axis),)


def _log_softmax_with_softmax(x: Array, axis: int) -> tuple[Array, Callable[[], Array]]:
    """Return the logarithm of softmax, as a constant, and a function that returns softmax."""
    shifted = x - finite_max(x, axis=axis)
    e = constant_exp(shifted)
    logp = shifted - log_of_sum(e, shifted, axis=axis)
    return logp, lambda: share(x, e, np.sum(e, axis=axis, keepdims=True), axis=axis)


def _less_the_log_of_the_sum(x: Real, *, axis: int = -1) -> VJP:
    axis = fit_axes(axis, x.ndim)
    shifted = x - finite_max(x, axis=axis)
    with np.errstate(divide="ignore"):  # log 0, of no classes
        y = shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return y, (lambda g: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True),)


def _less_logsumexp(x: Real, *, axis: int = -1) -> VJP:
    axis = fit_axes(axis, x.ndim)
    y = x - logsumexp.usual_forms[0](x, axis=axis, keepdims=True)
    return y, (lambda g: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True),)


@op(draw_along_axis, also=(_less_the_log_of_the_sum, _less_logsumexp))
def log_softmax(x: Real, *, axis: int = -1) -> VJP:
    axis = fit_axes(axis, x.ndim)
    logp, compute_p = _log_softmax_with_softmax(x, axis)

    def pull(g: Array) -> Array:
        p = compute_p()
        return balance(g - p * np.sum(g, axis=axis, keepdims=True), p, axis)

    return logp, (pull,)


def _draw_layer_norm(choose: Choices) -> Call:
    weight = tuple(n or 1 for n in draw_shape(choose, 1, 3))
    batch = draw_shape(choose, high=4 - len(weight), other_lengths=weight)
    return Call((batch + weight, weight, weight), {"eps": choose.of([1e-5, 1e-2])})


def _less_the_mean_of_products(x: Real, weight: Real, bias: Real, *, eps: float = 1e-5) -> VJP:
    axes = tuple(range(-weight.ndim, 0))
    centred = x - np.mean(x, axis=axes, keepdims=True)
    rstd = 1 / np.sqrt(np.mean(centred * centred, axis=axes, keepdims=True) + eps)
    xhat = centred * rstd

    def pull_x(g: Array) -> Array:
        gx = g * weight
        mean_gx_xhat = np.mean(gx * xhat, axis=axes, keepdims=True)
        return rstd * (gx - np.mean(gx, axis=axes, keepdims=True) - xhat * mean_gx_xhat)

    return xhat * weight + bias, (pull_x, lambda g: g * xhat, lambda g: g)


@op(_draw_layer_norm, also=(_less_the_mean_of_products,))
def layer_norm(x: Real, weight: Real, bias: Real, *, eps: float = 1e-5) -> VJP:
    """Return (x - mean) / sqrt(var + eps) * weight + bias, of the shape of x (Ba et al., 2016).

    Mean and variance are over the trailing axes, as many as weight has.

    Args:
        x: of shape (..., *normalized).
        weight: of shape (*normalized).
        bias: of shape (*normalized).
        eps: keeps the denominator above 0.
    """
    if weight.ndim < 1 or x.shape[x.ndim - weight.ndim :] != weight.shape or bias.shape != weight.shape:
        raise ValueError(
            f"layer_norm: x {x.shape}, weight {weight.shape} and bias {bias.shape} do not fit; "
            "weight and bias must have the shape of the last axes of x, at least one"
        )
    is_plain = all(type(a) is np.ndarray and a.itemsize >= 4 for a in (x, weight, bias))
    if is_plain and x.size > 2 * MAX_BLOCK_ELEMENTS:
        return layer_norm_in_blocks(x, weight, bias, eps)
    axes = tuple(range(-weight.ndim, 0))
    # Less itself, one element is 0; less its mean, it need not be.
    centred = x - (x if weight.size == 1 else np.mean(x, axis=axes, keepdims=True))
    rstd = 1 / np.sqrt(np.mean(centred * centred, axis=axes, keepdims=True) + eps)
    xhat = standardize(x, centred, rstd, axes=axes, eps=eps)

    def pull_x(g: Array) -> Array:
        return pull_normalized(g * weight, x, centred, rstd, axes, eps)

    return xhat * weight + bias, (pull_x, lambda g: g * xhat, lambda g: g)


def _draw_cross_entropy(choose: Choices) -> Call:
    reduction = choose.of(["mean", "sum", "none"])
    x = tuple(n or 1 for n in draw_shape(choose, 1))
    axis = min(1, len(x) - 1)
    return Call((x, IntegerArrayBelow((*x[:axis], *x[axis + 1 :]), x[axis])), {"reduction": reduction})


def describe_bad_targets(x: Array) -> str:
    """Return the error message for targets that are not among the classes of x."""
    classes = x.shape[min(1, x.ndim - 1)]
    return f"cross_entropy: targets must be integers in 0..{classes - 1}, the classes of x {x.shape}"


def check_and_count_classes(x: Array, target: Array, reduction: str) -> int:
    """Check the arguments of `cross_entropy`, except the values of target; return how many classes x has.

    Raises:
        ValueError: if shapes do not fit, targets are not integers, or the reduction does not exist.
    """
    axis = min(1, x.ndim - 1)
    classes = x.shape[axis] if x.ndim else 0
    if target.shape != (*x.shape[:axis], *x.shape[axis + 1 :]) or not x.ndim:
        raise ValueError(
            f"cross_entropy: target {target.shape} does not fit x {x.shape}; "
            "it must have the shape of x without the axis of the classes"
        )
    if target.dtype.kind not in "iu":
        raise ValueError(describe_bad_targets(x))
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"cross_entropy: reduction is {reduction!r}; allowed are 'mean', 'sum' and 'none'")
    return classes


def _pick_losses(logp: Array, target: Array, reduction: str, subtract_one: Callable[[Array], Array]) -> VJP:
    """Return the loss and its pullbacks.

    Args:
        logp: the logarithm of softmax.
        target: as of `cross_entropy`.
        reduction: as of `cross_entropy`.
        subtract_one: returns softmax less 1 at the target, given a mask of it.
    """
    axis = min(1, logp.ndim - 1)
    places = [
        np.reshape(np.arange(n, like=as_array(target)), (n,) + (1,) * (target.ndim - i - 1))
        for i, n in enumerate(target.shape)
    ]
    at_target = (*places[:axis], target, *places[axis:])
    one_hot = np.zeros_like(target, np.bool_, shape=logp.shape)
    one_hot[at_target] = True
    losses = -logp[at_target]

    def pull_x(g: Array) -> Array:
        if reduction == "none":
            g = np.expand_dims(g, axis)
        elif reduction == "mean":
            g = g / target.size
        return subtract_one(one_hot) * g

    total = losses if reduction == "none" else np.sum(losses)
    return total / target.size if reduction == "mean" else total, (pull_x, None)


def cross_entropy_unchecked(x: Array, target: Array, reduction: str) -> VJP:
    """Return what the rule of `cross_entropy` returns, for targets that are known to be classes."""
    axis = min(1, x.ndim - 1)
    logp, compute_p = _log_softmax_with_softmax(x, axis)

    # At the target p - 1 is minus the sum of the others.
    def subtract_one(one_hot: Array) -> Array:
        p = compute_p()
        return np.where(one_hot, -np.sum(np.where(one_hot, 0, p), axis=axis, keepdims=True), p)

    return _pick_losses(logp, target, reduction, subtract_one)


def _share_less_one(x: Real, target: Index, *, reduction: Literal["mean", "sum", "none"] = "mean") -> VJP:
    logp = log_softmax.usual_forms[0](x, axis=min(1, x.ndim - 1))
    return _pick_losses(logp, target, reduction, lambda one_hot: np.exp(logp) - one_hot)


def _share_less_one_by_logsumexp(
    x: Real, target: Index, *, reduction: Literal["mean", "sum", "none"] = "mean"
) -> VJP:
    logp = log_softmax.usual_forms[1](x, axis=min(1, x.ndim - 1))
    return _pick_losses(logp, target, reduction, lambda one_hot: np.exp(logp) - one_hot)


@op(_draw_cross_entropy, also=(_share_less_one, _share_less_one_by_logsumexp))
def cross_entropy(x: Real, target: Index, *, reduction: Literal["mean", "sum", "none"] = "mean") -> VJP:
    """Return -log softmax(x)[target], averaged ("mean"), summed ("sum") or for each target ("none").

    Args:
        x: of shape (classes), (n, classes) or (n, classes, ...).
        target: integers in 0..classes-1, of the shape of x without the axis of the classes.
        reduction: "mean", "sum" or "none".
    """
    classes = check_and_count_classes(x, target, reduction)
    if target.size and not 0 <= target.min() <= target.max() < classes:
        raise ValueError(describe_bad_targets(x))
    return cross_entropy_unchecked(x, target, reduction)
