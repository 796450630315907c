"""The formulas of layer_norm: one that loses no digits, and the usual one in blocks, for large arrays."""

import math

import numpy as np

from gradspec.reference.arrays import as_array
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array

MAX_BLOCK_ELEMENTS = 2**16
"""How many elements a block may have, so that each step on it finds them in the processor's cache."""


def layer_norm_in_blocks(x: Array, weight: Array, bias: Array, eps: float) -> VJP:
    """Return what `layer_norm` returns, computed on some rows at a time.

    So each block is loaded from memory once, not at every step. The formula is

        dx = rstd (g weight - mean(g weight) - xhat mean(g weight xhat)),

    where the means are products of g and of g * xhat with weight. Sums over rows are products with ones,
    which takes a third of the time of other sums. Weight and bias are repeated for a whole block, which takes
    half the time of broadcasting. The mean of x is summed in pairs: as a product it is twice as far off where
    it is large.
    """
    n, w = weight.size, np.reshape(weight, -1)
    rows = np.reshape(x, (-1, n))
    step = max(1, MAX_BLOCK_ELEMENTS // n)
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
        dx_rows, ones = np.reshape(dx, rows.shape), np.ones(step, g.dtype)
        dweight, dbias = np.zeros(n, g.dtype), np.zeros(n, g.dtype)
        for block in blocks:
            xhat = standardize(block)
            g_xhat = g[block] * xhat
            dweight += ones[: len(g_xhat)] @ g_xhat
            dbias += ones[: len(g_xhat)] @ g[block]
            d = np.multiply(g[block], weights[: len(g_xhat)], out=dx_rows[block])
            d -= (g[block] @ w / n)[:, None]
            d -= np.multiply(xhat, (g_xhat @ w / n)[:, None], out=g_xhat)
            d *= rstd[block]
        return dx, np.reshape(dweight, weight.shape), np.reshape(dbias, bias.shape)

    return np.reshape(y, x.shape), pull


@record
def mark_largest(x: Array, *, axes: tuple[int, ...]) -> VJP:
    """Return a mask of the first element of the largest size along the trailing axes, as a constant."""
    n = math.prod(x.shape[i] for i in axes)
    rows = np.abs(np.reshape(x, (*x.shape[: x.ndim - len(axes)], n)))
    largest = np.argmax(rows, axis=-1, keepdims=True) if n else 0
    return np.reshape(np.arange(n, like=as_array(x)) == largest, x.shape), None


@record
def zeros(x: Array) -> VJP:
    """Return zeros of the shape of x, as a constant."""
    return np.zeros_like(x), None


def pull_normalized(
    h: Array, x: Array, centred: Array, rstd: Array, axes: tuple[int, ...], eps: float
) -> Array:
    """Return the gradient of x, given the cotangent h of xhat = (x - mean) rstd.

    The usual formula, rstd (h - mean(h) - xhat mean(h xhat)), cancels where one element of a row has nearly
    all of its variance, always in rows of two. So the element k that is furthest from the mean is kept apart.
    Let m and q be the means of the other x and h, and

        r = x - m,  p = h - q,  both 0 at k,       c = centred,
        e = sum(r^2) / n + eps,  d = h_k - q,  s = sum(p r).

    Then 1/rstd^2 + c_k c_i = e + c_k r_i for every other i, in which the large numbers have cancelled, and

        dx_k = rstd^3 / n ((n - 1) e d - c_k s),
        dx_i = rstd p_i - rstd^3 / n (d (e + c_k r_i) + c_i s),

    in which each of c, r and s gets one rstd below, and e two, so that nothing overflows.

    Args:
        h: the cotangent of xhat, of the shape of x.
        x: what is normalized.
        centred: x less its mean.
        rstd: the reciprocal of the standard deviation, of length 1 along the axes.
        axes: the trailing axes that are normalized.
        eps: what was added to the variance.
    """
    n = math.prod(x.shape[i] for i in axes)

    def add_up(a: Array) -> Array:
        return np.sum(a, axis=axes, keepdims=True)

    def subtract_mean_of_others(a: Array) -> tuple[Array, Array]:
        mean = add_up(np.where(largest, 0, a)) / max(n - 1, 1)
        # A single other is its mean but for roundings; so is none.
        return mean, np.where(largest, 0, a - mean) if n > 2 else zeros(a)

    largest = mark_largest(centred, axes=axes)
    (_, r), (q, p) = subtract_mean_of_others(x), subtract_mean_of_others(h)
    d, c = add_up(np.where(largest, h - q, 0)), add_up(np.where(largest, centred, 0)) * rstd
    e, s = (add_up(r * r) / n + eps) * rstd * rstd, add_up(p * r) * rstd
    at_largest = (e * d * (n - 1) - c * s) / n
    elsewhere = p - (d * (e + c * (r * rstd)) + centred * rstd * s) / n
    return rstd * np.where(largest, at_largest, elsewhere)


@record
def standardize(x: Array, centred: Array, rstd: Array, *, axes: tuple[int, ...], eps: float) -> VJP:
    """Return xhat = centred rstd; its derivative is by x alone, and loses no digits."""
    return centred * rstd, (lambda h: pull_normalized(h, x, centred, rstd, axes, eps), None, None)
