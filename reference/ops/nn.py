"""Layers and losses of neural networks."""

from typing import Literal

import numpy as np

from gradspec.reference.arrays import as_array
from gradspec.reference.cases import Call, Choices, IntegersBelow, draw_along_axis, draw_shape
from gradspec.reference.domains import Index, Real
from gradspec.reference.op import op
from gradspec.reference.ops.reductions import finite_max
from gradspec.reference.rule import VJP, Array


@op(draw_along_axis)
def softmax(x: Real, *, axis: int = -1) -> VJP:
    e = np.exp(x - finite_max(x, axis=axis))
    y = e / np.sum(e, axis=axis, keepdims=True)
    return y, (lambda g: y * (g - np.sum(g * y, axis=axis, keepdims=True)),)


@op(draw_along_axis)
def log_softmax(x: Real, *, axis: int = -1) -> VJP:
    shifted = x - finite_max(x, axis=axis)
    with np.errstate(divide="ignore"):  # of no classes
        y = shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return y, (lambda g: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True),)


def _draw_layer_norm(choose: Choices) -> Call:
    weight = tuple(n or 1 for n in draw_shape(choose, 1, 3))
    batch = draw_shape(choose, high=4 - len(weight), other_lengths=weight)
    return Call((batch + weight, weight, weight), {"eps": choose.of([1e-5, 1e-2])})


_MAX_BLOCK_ELEMENTS = 2**16
"""How many elements a block may have, for its steps to find them in the processor's cache."""


def _layer_norm_in_blocks(x: Array, weight: Array, bias: Array, eps: float) -> VJP:
    """`layer_norm` of plain arrays, some rows at a time: each block goes through the memory once, not at every step.

    With means as products, of g * xhat and g with weight: dx = rstd (g weight - mean(g weight) - xhat mean(g weight xhat)).
    Sums over rows are products with ones, and weight and bias are repeated for a whole block: a third of the time of other sums,
    and half of that of broadcasting. The mean is summed in pairs: as a product it is twice as far off where it is large.
    """
    n, w = weight.size, np.reshape(weight, -1)
    rows = np.reshape(x, (-1, n))
    step = max(1, _MAX_BLOCK_ELEMENTS // n)
    blocks = [slice(i, i + step) for i in range(0, len(rows), step)]
    y = np.empty(rows.shape, np.result_type(x, weight, bias))
    mean, rstd = np.empty((2, len(rows), 1), x.dtype)
    weights, biases = (np.tile(np.reshape(a, -1), (min(step, len(rows)), 1)) for a in (weight, bias))

    def standardize(block: slice) -> Array:
        xhat = rows[block] - mean[block]
        xhat *= rstd[block]
        return xhat

    for block in blocks:
        mean[block] = np.add.reduce(rows[block], axis=1, keepdims=True) / n
        centred = rows[block] - mean[block]
        rstd[block, 0] = 1 / np.sqrt(np.vecdot(centred, centred) / n + eps)
        centred *= rstd[block]
        np.multiply(centred, weights[: len(centred)], out=y[block])
        y[block] += biases[: len(centred)]

    def pull(g: Array) -> tuple[Array, Array, Array]:
        g, dx = np.reshape(g, rows.shape), np.empty(x.shape, g.dtype)
        dx_rows, down = np.reshape(dx, rows.shape), np.ones(step, g.dtype)
        dweight, dbias = np.zeros(n, g.dtype), np.zeros(n, g.dtype)
        for block in blocks:
            xhat = standardize(block)
            along = g[block] * xhat
            dweight += down[: len(along)] @ along
            dbias += down[: len(along)] @ g[block]
            d = np.multiply(g[block], weights[: len(along)], out=dx_rows[block])
            d -= (g[block] @ w / n)[:, None]
            d -= np.multiply(xhat, (along @ w / n)[:, None], out=along)
            d *= rstd[block]
        return dx, np.reshape(dweight, weight.shape), np.reshape(dbias, bias.shape)

    return np.reshape(y, x.shape), pull


@op(_draw_layer_norm)
def layer_norm(x: Real, weight: Real, bias: Real, *, eps: float = 1e-5) -> VJP:
    """(x - mean) / sqrt(var + eps) * weight + bias over the trailing axes, as many as weight has (Ba et al., 2016).

    x: (..., *normalized), weight and bias: (*normalized); the value has the shape of x.
    """
    if weight.ndim < 1 or x.shape[x.ndim - weight.ndim :] != weight.shape or bias.shape != weight.shape:
        raise ValueError(
            f"layer_norm: x {x.shape}, weight {weight.shape} and bias {bias.shape} do not fit; "
            "weight and bias must have the shape of the last axes of x, at least one"
        )
    if (
        all(type(a) is np.ndarray and a.itemsize >= 4 for a in (x, weight, bias))
        and x.size > 2 * _MAX_BLOCK_ELEMENTS
    ):
        return _layer_norm_in_blocks(x, weight, bias, eps)
    axes = tuple(range(-weight.ndim, 0))
    centred = x - np.mean(x, axis=axes, keepdims=True)
    rstd = 1 / np.sqrt(np.mean(centred * centred, axis=axes, keepdims=True) + eps)
    xhat = centred * rstd

    def pull_x(g: Array) -> Array:
        gx = g * weight
        along_xhat = np.mean(gx * xhat, axis=axes, keepdims=True)
        return rstd * (gx - np.mean(gx, axis=axes, keepdims=True) - xhat * along_xhat)

    return xhat * weight + bias, (pull_x, lambda g: g * xhat, lambda g: g)


def _draw_cross_entropy(choose: Choices) -> Call:
    reduction = choose.of(["mean", "sum", "none"])
    x = tuple(n or 1 for n in draw_shape(choose, 1))
    axis = min(1, len(x) - 1)
    return Call((x, IntegersBelow((*x[:axis], *x[axis + 1 :]), x[axis])), {"reduction": reduction})


def describe_bad_targets(x: Array) -> str:
    """What is said of targets that are none of the classes of x."""
    classes = x.shape[min(1, x.ndim - 1)]
    return f"cross_entropy: targets must be integers in 0..{classes - 1}, the classes of x {x.shape}"


def check_and_count_classes(x: Array, target: Array, reduction: str) -> int:
    """How many classes x has; ValueError where shapes, the kind of targets or the reduction are none of cross_entropy's."""
    axis = min(1, x.ndim - 1)
    classes = x.shape[axis] if x.ndim else 0
    if target.shape != (*x.shape[:axis], *x.shape[axis + 1 :]) or not x.ndim:
        raise ValueError(
            f"cross_entropy: target {target.shape} does not fit x {x.shape}; it must be that without the classes"
        )
    if target.dtype.kind not in "iu":
        raise ValueError(describe_bad_targets(x))
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"cross_entropy: reduction is {reduction!r}; allowed are 'mean', 'sum' and 'none'")
    return classes


def cross_entropy_unchecked(x: Array, target: Array, reduction: str) -> VJP:
    """The rule of cross_entropy for targets that are known to be classes."""
    axis = min(1, x.ndim - 1)
    places = [
        np.reshape(np.arange(n, like=as_array(target)), (n,) + (1,) * (target.ndim - i - 1))
        for i, n in enumerate(target.shape)
    ]
    at_target = (*places[:axis], target, *places[axis:])
    hot = np.zeros_like(target, np.bool_, shape=x.shape)
    hot[at_target] = True
    logp = log_softmax(x, axis=axis)
    each_loss = -logp[at_target]

    def pull_x(g: Array) -> Array:
        each = (
            np.expand_dims(g, axis) if reduction == "none" else g / target.size if reduction == "mean" else g
        )
        return (np.exp(logp) - hot) * each

    total = each_loss if reduction == "none" else np.sum(each_loss)
    return total / target.size if reduction == "mean" else total, (pull_x, None)


@op(_draw_cross_entropy)
def cross_entropy(x: Real, target: Index, *, reduction: Literal["mean", "sum", "none"] = "mean") -> VJP:
    """-log softmax(x)[target], averaged ("mean"), summed ("sum") or for each target ("none").

    x: (classes), (n, classes) or (n, classes, ...); target: the shape of x without the classes, integers below them.
    """
    classes = check_and_count_classes(x, target, reduction)
    if target.size and not 0 <= target.min() <= target.max() < classes:
        raise ValueError(describe_bad_targets(x))
    return cross_entropy_unchecked(x, target, reduction)
