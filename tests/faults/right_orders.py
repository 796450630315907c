"""Variants with other orders: sums and products, and statistics in one pass."""

import functools
from collections.abc import Callable

import numpy as np

from gradspec.reference import OPS
from gradspec.reference.axes import normalize_axes
from tests.faults.fault import Array, RuleResult, spell_out_name
from tests.faults.own_reductions import Axis, keepdims_shape
from tests.faults.right import KIND_ORDER, right_rule

VECTOR_LANES = 8  # partial sums, of every eighth element each

Reduction = Callable[[Array], Array]
"""From an array of shape (..., n) to one of shape (...)."""


def flatten_reduced_axes(x: Array, axis: Axis) -> Array:
    """Return x with the axes to reduce moved to the end and flattened to one."""
    axes = normalize_axes(axis, x.ndim)
    moved = np.moveaxis(x, axes, range(-len(axes), 0)) if axes else x[..., None]
    lead = x.ndim - len(axes)
    return moved.reshape(*moved.shape[:lead], int(np.prod(moved.shape[lead:], dtype=int)))


def sum_one_by_one(x: Array) -> Array:
    """Add one element after the other."""
    return functools.reduce(np.add, np.moveaxis(x, -1, 0), np.zeros(x.shape[:-1], x.dtype))


def sum_backwards(x: Array) -> Array:
    return sum_one_by_one(x[..., ::-1])


def sum_by_pairs(x: Array) -> Array:
    """Add neighbours, then neighbouring sums, and so on."""
    while x.shape[-1] > 1:
        odd = x[..., 2 * (x.shape[-1] // 2) :]
        x = np.concat([x[..., 0:-1:2] + x[..., 1::2], odd], axis=-1)
    return x[..., 0] if x.shape[-1] else np.zeros(x.shape[:-1], x.dtype)


def sum_by_eights(x: Array) -> Array:
    """Add every eighth element, as vector registers do, then the eight sums."""
    lanes = [sum_one_by_one(x[..., i::VECTOR_LANES]) for i in range(VECTOR_LANES)]
    return sum_by_pairs(np.stack(lanes, axis=-1))


def sum_with_compensation(x: Array) -> Array:
    """Add one after the other and correct the sum by the rounding errors (Neumaier, 1974)."""
    total, lost = np.zeros((2, *x.shape[:-1]), x.dtype)
    for term in np.moveaxis(x, -1, 0):
        new = total + term
        off = np.where(np.abs(total) >= np.abs(term), (total - new) + term, (term - new) + total)
        lost, total = lost + np.where(np.isfinite(off), off, 0), new
    return total + lost


SUM_ORDERS = (sum_one_by_one, sum_backwards, sum_by_pairs, sum_by_eights, sum_with_compensation)


def reshape_like_value(op: str, x: Array, y: Array, axis: Axis, keepdims: bool) -> Array:
    """Return the result of each row in the shape of the op's value and the dtype of x."""
    return np.reshape(y, np.shape(OPS[op].rule(x, axis=axis, keepdims=keepdims)[0])).astype(x.dtype)


def count_reduced(x: Array, axis: Axis) -> int:
    """Return the number of elements that one element of the value is made of."""
    n: int = flatten_reduced_axes(x, axis).shape[-1]
    return n


def register_sum_order(add_up: Reduction) -> None:
    """Declare variants of the ops that sum, with `add_up` for their sums."""
    adds = f"adds up {spell_out_name(add_up).removeprefix('sum ')}"

    @right_rule("sum", KIND_ORDER, f"sum {adds}")
    def sum_(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
        _, pulls = OPS["sum"].rule(x, axis=axis, keepdims=keepdims)
        y = add_up(flatten_reduced_axes(x, axis))
        return reshape_like_value("sum", x, y, axis, keepdims), pulls

    @right_rule("mean", KIND_ORDER, f"mean {adds}")
    def mean_(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
        _, pulls = OPS["mean"].rule(x, axis=axis, keepdims=keepdims)
        y = add_up(flatten_reduced_axes(x, axis)) / count_reduced(x, axis)
        return reshape_like_value("mean", x, y, axis, keepdims), pulls

    @right_rule("softmax", KIND_ORDER, f"softmax {adds}")
    def softmax_(x: Array, *, axis: int = -1) -> RuleResult:
        e = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))

        def total(t: Array) -> Array:
            return np.expand_dims(add_up(np.moveaxis(t, axis, -1)), axis)

        y = e / total(e)
        return y, (lambda g: y * (g - total(g * y)),)

    @right_rule("matmul", KIND_ORDER, f"matmul {adds}")
    def matmul_(x: Array, y: Array) -> RuleResult:
        z, pulls = OPS["matmul"].rule(x, y)
        left = x if x.ndim > 1 else x[None, :]
        right_ = y if y.ndim > 1 else y[:, None]
        terms = left[..., :, None, :] * np.swapaxes(right_, -1, -2)[..., None, :, :]
        return np.reshape(add_up(terms), z.shape), pulls


for add_up in SUM_ORDERS:
    register_sum_order(add_up)


@right_rule("prod", KIND_ORDER)
def prod_multiplies_backwards(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    _, pulls = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)
    terms = np.moveaxis(flatten_reduced_axes(x, axis)[..., ::-1], -1, 0)
    y = functools.reduce(np.multiply, terms, np.ones(terms.shape[1:], x.dtype))
    return reshape_like_value("prod", x, y, axis, keepdims), pulls


@right_rule("prod", KIND_ORDER)
def prod_multiplies_what_is_before_by_what_is_behind(
    x: Array, *, axis: Axis = None, keepdims: bool = False
) -> RuleResult:
    value, _ = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)
    axes = normalize_axes(axis, x.ndim)

    def pull(g: Array) -> Array:
        t = flatten_reduced_axes(x, axis)
        one = np.ones((*t.shape[:-1], 1), x.dtype)
        before = np.cumprod(np.concat([one, t[..., :-1]], axis=-1), axis=-1)
        behind = np.cumprod(np.concat([one, t[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
        others = (before * behind)[..., : t.shape[-1]]
        lead = [i for i in range(x.ndim) if i not in axes]
        moved = others.reshape([x.shape[i] for i in (*lead, *axes)])
        return np.reshape(g, keepdims_shape(x, axis)) * np.permute_dims(moved, np.argsort((*lead, *axes)))

    return value, (pull,)


# Statistics in one pass


def compute_running_statistics(x: Array) -> tuple[Array, Array]:
    """Return the mean and the sum of squared distances from it, updated with each element (Welford, 1962)."""
    mean, m2 = np.zeros((2, *x.shape[:-1]), x.dtype)
    for n, term in enumerate(np.moveaxis(x, -1, 0), 1):
        d = term - mean
        mean = mean + d / n
        m2 = m2 + d * (term - mean)
    return mean, m2


def compute_merged_statistics(x: Array) -> tuple[Array, Array]:
    """Return the same two, merged from those of the halves (Chan, Golub and LeVeque, 1979)."""
    n = x.shape[-1]
    if n < 2:
        return x.sum(-1), (x - x).sum(-1)  # NaN for an infinity
    k = n // 2
    a, m2_a = compute_merged_statistics(x[..., :k])
    b, m2_b = compute_merged_statistics(x[..., k:])
    d = b - a
    return a + d * (n - k) / n, m2_a + m2_b + d * d * (k * (n - k)) / n


def register_statistics(compute: Callable[[Array], tuple[Array, Array]]) -> None:
    """Declare variants of the ops that need mean and variance, with `compute` for both."""
    statistics = spell_out_name(compute).removeprefix("compute ")

    @right_rule("var", KIND_ORDER, f"var of {statistics}")
    def var_(x: Array, *, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> RuleResult:
        y, pulls = OPS["var"].rule(x, axis=axis, correction=correction, keepdims=keepdims)
        n = count_reduced(x, axis)
        value = compute(flatten_reduced_axes(x, axis))[1] / (n - correction if n > correction else 0)
        return np.reshape(value, np.shape(y)).astype(x.dtype), pulls

    @right_rule("layer_norm", KIND_ORDER, f"layer_norm of {statistics}")
    def layer_norm_(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> RuleResult:
        axes = tuple(range(-weight.ndim, 0))
        n = weight.size
        shape = (*x.shape[: x.ndim - weight.ndim], *(1,) * weight.ndim)
        mean, m2 = (np.reshape(s, shape) for s in compute(flatten_reduced_axes(x, axes)))
        rstd = (1 / np.sqrt(m2 / n + eps)).astype(x.dtype)
        xhat = (x - mean) * rstd

        def pull(g: Array) -> list[Array]:
            gx = g * weight
            along = (gx * xhat).sum(axes, keepdims=True)
            dx = (n * gx - gx.sum(axes, keepdims=True) - xhat * along) * (rstd / n)
            return [dx, g * xhat, g]

        return xhat * weight + bias, pull


for compute in (compute_running_statistics, compute_merged_statistics):
    register_statistics(compute)


@right_rule("logsumexp", KIND_ORDER)
def logsumexp_of_one_pass(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    """The largest element so far is subtracted (Milakov and Gimelshein, 2018)."""
    _, pulls = OPS["logsumexp"].rule(x, axis=axis, keepdims=keepdims)
    top, total = compute_online_max_and_exp_sum(flatten_reduced_axes(x, axis))
    with np.errstate(divide="ignore"):
        return reshape_like_value("logsumexp", x, np.log(total) + top, axis, keepdims), pulls


@right_rule("softmax", KIND_ORDER)
def softmax_of_one_pass(x: Array, *, axis: int = -1) -> RuleResult:
    top, total = (np.expand_dims(s, axis) for s in compute_online_max_and_exp_sum(np.moveaxis(x, axis, -1)))
    y = np.exp(x - top) / total
    return y, (lambda g: y * (g - (g * y).sum(axis=axis, keepdims=True)),)


@right_rule("log_softmax", KIND_ORDER)
def log_softmax_of_one_pass(x: Array, *, axis: int = -1) -> RuleResult:
    top, total = (np.expand_dims(s, axis) for s in compute_online_max_and_exp_sum(np.moveaxis(x, axis, -1)))
    y = x - top - np.log(total)
    return y, (lambda g: g - np.exp(y) * g.sum(axis=axis, keepdims=True),)


def compute_online_max_and_exp_sum(x: Array) -> tuple[Array, Array]:
    """Return the largest element of each row, and the sum of the exponentials of all elements minus it."""
    top, total = np.full(x.shape[:-1], -np.inf, x.dtype), np.zeros(x.shape[:-1], x.dtype)
    for term in np.moveaxis(x, -1, 0):
        new = np.maximum(top, term)
        base = np.where(np.isfinite(new), new, 0)
        total, top = total * np.exp(top - base) + np.exp(term - base), new
    return np.where(np.isfinite(top), top, 0), total
