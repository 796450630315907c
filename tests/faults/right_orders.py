"""Right in another way: sums and products in other orders, statistics in one pass."""

import functools
from collections.abc import Callable

import numpy as np

from faults.fault import Array, Made
from faults.own_reductions import Axis, kept
from faults.right import ORDER, right
from gradspec.reference import OPS
from gradspec.reference.axes import normalize_axes

BLOCK = 8  # elements that are added up first
Reduction = Callable[[Array], Array]
"""From (..., n) to (...)."""


def rows(x: Array, axis: Axis) -> Array:
    """X with the axes to be reduced last, and as one."""
    axes = normalize_axes(axis, x.ndim)
    moved = np.moveaxis(x, axes, range(-len(axes), 0)) if axes else x[..., None]
    lead = x.ndim - len(axes)
    return moved.reshape(*moved.shape[:lead], int(np.prod(moved.shape[lead:], dtype=int)))


def one_by_one(x: Array) -> Array:
    """One after the other."""
    return functools.reduce(np.add, np.moveaxis(x, -1, 0), np.zeros(x.shape[:-1], x.dtype))


def backwards(x: Array) -> Array:
    return one_by_one(x[..., ::-1])


def by_pairs(x: Array) -> Array:
    """Neighbours first, then neighbours of these."""
    while x.shape[-1] > 1:
        odd = x[..., 2 * (x.shape[-1] // 2) :]
        x = np.concat([x[..., 0:-1:2] + x[..., 1::2], odd], axis=-1)
    return x[..., 0] if x.shape[-1] else np.zeros(x.shape[:-1], x.dtype)


def by_eights(x: Array) -> Array:
    """As vector registers do it: every eighth element together."""
    return by_pairs(np.stack([one_by_one(x[..., i::BLOCK]) for i in range(BLOCK)], axis=-1))


def with_compensation(x: Array) -> Array:
    """With the rounding of each addition carried on (Neumaier, 1974)."""
    total, lost = np.zeros((2, *x.shape[:-1]), x.dtype)
    for term in np.moveaxis(x, -1, 0):
        new = total + term
        off = np.where(np.abs(total) >= np.abs(term), (total - new) + term, (term - new) + total)
        lost, total = lost + np.where(np.isfinite(off), off, 0), new
    return total + lost


SUMS: tuple[Reduction, ...] = (one_by_one, backwards, by_pairs, by_eights, with_compensation)


def reduced(op: str, x: Array, y: Array, axis: Axis, keepdims: bool) -> Array:
    """The rows' results in the shape of the op's value."""
    return np.reshape(y, np.shape(OPS[op].rule(x, axis=axis, keepdims=keepdims)[0])).astype(x.dtype)


def count(x: Array, axis: Axis) -> int:
    n: int = rows(x, axis).shape[-1]
    return n


def in_order(how: Reduction) -> None:
    """The ops that sum, with this for their sums."""
    adds = f"adds up {how.__name__.replace('_', ' ')}"

    @right("sum", ORDER, f"sum {adds}")
    def sum_(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
        _, pulls = OPS["sum"].rule(x, axis=axis, keepdims=keepdims)
        return reduced("sum", x, how(rows(x, axis)), axis, keepdims), pulls

    @right("mean", ORDER, f"mean {adds}")
    def mean_(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
        _, pulls = OPS["mean"].rule(x, axis=axis, keepdims=keepdims)
        return reduced("mean", x, how(rows(x, axis)) / count(x, axis), axis, keepdims), pulls

    @right("softmax", ORDER, f"softmax {adds}")
    def softmax_(x: Array, *, axis: int = -1) -> Made:
        e = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))

        def total(t: Array) -> Array:
            return np.expand_dims(how(np.moveaxis(t, axis, -1)), axis)

        y = e / total(e)
        return y, (lambda g: y * (g - total(g * y)),)

    @right("matmul", ORDER, f"matmul {adds}")
    def matmul_(x: Array, y: Array) -> Made:
        z, pulls = OPS["matmul"].rule(x, y)
        left = x if x.ndim > 1 else x[None, :]
        right_ = y if y.ndim > 1 else y[:, None]
        terms = left[..., :, None, :] * np.swapaxes(right_, -1, -2)[..., None, :, :]
        return np.reshape(how(terms), z.shape), pulls


for how in SUMS:
    in_order(how)


@right("prod", ORDER)
def prod_multiplies_backwards(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    _, pulls = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)
    terms = np.moveaxis(rows(x, axis)[..., ::-1], -1, 0)
    y = functools.reduce(np.multiply, terms, np.ones(terms.shape[1:], x.dtype))
    return reduced("prod", x, y, axis, keepdims), pulls


@right("prod", ORDER)
def prod_multiplies_what_is_before_by_what_is_behind(
    x: Array, *, axis: Axis = None, keepdims: bool = False
) -> Made:
    value, _ = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)
    axes = normalize_axes(axis, x.ndim)

    def pull(g: Array) -> Array:
        t = rows(x, axis)
        one = np.ones((*t.shape[:-1], 1), x.dtype)
        before = np.cumprod(np.concat([one, t[..., :-1]], axis=-1), axis=-1)
        behind = np.cumprod(np.concat([one, t[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
        others = (before * behind)[..., : t.shape[-1]]
        lead = [i for i in range(x.ndim) if i not in axes]
        moved = others.reshape([x.shape[i] for i in (*lead, *axes)])
        return np.reshape(g, kept(x, axis)) * np.permute_dims(moved, np.argsort((*lead, *axes)))

    return value, (pull,)


# Statistics in one pass


def running(x: Array) -> tuple[Array, Array]:
    """Mean and sum of squared distances from it, updated with each element (Welford, 1962)."""
    mean, m2 = np.zeros((2, *x.shape[:-1]), x.dtype)
    for n, term in enumerate(np.moveaxis(x, -1, 0), 1):
        d = term - mean
        mean = mean + d / n
        m2 = m2 + d * (term - mean)
    return mean, m2


def merged(x: Array) -> tuple[Array, Array]:
    """The same, merged from halves (Chan, Golub and LeVeque, 1979)."""
    n = x.shape[-1]
    if n < 2:
        return x.sum(-1), (x - x).sum(-1)  # NaN of an infinity
    (a, m2_a), (b, m2_b) = merged(x[..., : n // 2]), merged(x[..., n // 2 :])
    d, k = b - a, n // 2
    return a + d * (n - k) / n, m2_a + m2_b + d * d * (k * (n - k)) / n


def shifted(x: Array) -> tuple[Array, Array]:
    """The sums of x - x[0] and of its square, which do not cancel where x is far from zero and narrow."""
    d = x - x[..., :1]
    total, n = d.sum(-1), x.shape[-1]
    return x[..., 0] + total / n, np.maximum((d * d).sum(-1) - total * total / n, 0)


def of_statistics(how: Callable[[Array], tuple[Array, Array]]) -> None:
    """The ops of mean and variance, with these for both."""

    @right("var", ORDER, f"var of {how.__name__} statistics")
    def var_(x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Made:
        y, pulls = OPS["var"].rule(x, axis=axis, correction=correction, keepdims=keepdims)
        n = count(x, axis)
        value = how(rows(x, axis))[1] / (n - correction if n > correction else 0)
        return np.reshape(value, np.shape(y)).astype(x.dtype), pulls

    @right("layer_norm", ORDER, f"layer_norm of {how.__name__} statistics")
    def layer_norm_(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> Made:
        axes = tuple(range(-weight.ndim, 0))
        n = weight.size
        keep = (*x.shape[: x.ndim - weight.ndim], *(1,) * weight.ndim)
        mean, m2 = (np.reshape(s, keep) for s in how(rows(x, axes)))
        rstd = (1 / np.sqrt(m2 / n + eps)).astype(x.dtype)
        xhat = (x - mean) * rstd

        def pull(g: Array) -> list[Array]:
            gx = g * weight
            along = (gx * xhat).sum(axes, keepdims=True)
            dx = (n * gx - gx.sum(axes, keepdims=True) - xhat * along) * (rstd / n)
            return [dx, g * xhat, g]

        return xhat * weight + bias, pull


for statistics in (running, merged):
    of_statistics(statistics)


@right("logsumexp", ORDER)
def logsumexp_of_one_pass(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    """With the largest element so far subtracted (Milakov and Gimelshein, 2018)."""
    _, pulls = OPS["logsumexp"].rule(x, axis=axis, keepdims=keepdims)
    top, total = online(rows(x, axis))
    with np.errstate(divide="ignore"):
        return reduced("logsumexp", x, np.log(total) + top, axis, keepdims), pulls


@right("softmax", ORDER)
def softmax_of_one_pass(x: Array, *, axis: int = -1) -> Made:
    top, total = (np.expand_dims(s, axis) for s in online(np.moveaxis(x, axis, -1)))
    y = np.exp(x - top) / total
    return y, (lambda g: y * (g - (g * y).sum(axis=axis, keepdims=True)),)


@right("log_softmax", ORDER)
def log_softmax_of_one_pass(x: Array, *, axis: int = -1) -> Made:
    top, total = (np.expand_dims(s, axis) for s in online(np.moveaxis(x, axis, -1)))
    y = x - top - np.log(total)
    return y, (lambda g: g - np.exp(y) * g.sum(axis=axis, keepdims=True),)


def online(x: Array) -> tuple[Array, Array]:
    """The largest element of each row, and the sum of the exponentials of all less it."""
    top, total = np.full(x.shape[:-1], -np.inf, x.dtype), np.zeros(x.shape[:-1], x.dtype)
    for term in np.moveaxis(x, -1, 0):
        new = np.maximum(top, term)
        base = np.where(np.isfinite(new), new, 0)
        total, top = total * np.exp(top - base) + np.exp(term - base), new
    return np.where(np.isfinite(top), top, 0), total
