"""Faults of matrix products and of layers: transposes, forgotten terms, statistics, targets, reductions."""

import numpy as np

from gradspec.reference import OPS
from tests.faults.fault import (
    EXTREMES_PROPERTY,
    GRADIENT_PROPERTY,
    SHAPES_PROPERTY,
    VALUE_PROPERTY,
    Array,
    RuleResult,
)
from tests.faults.own import apply_pullbacks, wrong_rule, wrong_vjp
from tests.faults.own_reductions import compute_in_float32, sum_sequentially

transpose = np.matrix_transpose


@wrong_rule("matmul")
def matmul_forgets_to_transpose_y(x: Array, y: Array) -> RuleResult:
    z, (to_x, to_y) = OPS["matmul"].rule(x, y)  # type: ignore[misc]
    square = y.ndim > 1 and y.shape[-1] == y.shape[-2]
    return z, (lambda g: g @ y if square and x.ndim > 1 else to_x(g), to_y)  # type: ignore[misc]


@wrong_rule("matmul")
def matmul_forgets_to_transpose_x(x: Array, y: Array) -> RuleResult:
    z, (to_x, to_y) = OPS["matmul"].rule(x, y)  # type: ignore[misc]
    square = x.ndim > 1 and x.shape[-1] == x.shape[-2]
    return z, (to_x, lambda g: x @ g if square and y.ndim > 1 else to_y(g))  # type: ignore[misc]


@wrong_rule("matmul")
def matmul_drops_the_rows_after_whole_blocks_of_32(x: Array, y: Array) -> RuleResult:
    z, (to_x, to_y) = OPS["matmul"].rule(x, y)  # type: ignore[misc]
    n = len(x) // 32 * 32 if x.ndim == y.ndim == 2 and len(x) > 32 else None
    return z, (to_x, to_y if n is None else lambda g: transpose(x[:n]) @ g[:n])


@wrong_rule("matmul", likely=VALUE_PROPERTY)
def matmul_multiplies_square_matrices_the_other_way_round(x: Array, y: Array) -> RuleResult:
    z, pulls = OPS["matmul"].rule(x, y)
    square = x.ndim == y.ndim == 2 and x.shape == y.shape and x.shape[0] == x.shape[1]
    return (y @ x if square else z), pulls


@wrong_rule("matmul", likely=VALUE_PROPERTY, is_16_bit=True)
def matmul_adds_up_in_sixteen_bits(x: Array, y: Array) -> RuleResult:
    z, pull = compute_in_float32("matmul", x, y)
    products = (x if x.ndim > 1 else x[None])[..., None] * (y if y.ndim > 1 else y[:, None])[..., None, :, :]
    return np.reshape(sum_sequentially(products, -2), z.shape), pull


@wrong_rule("add", is_16_bit=True)
def add_adds_up_over_broadcast_axes_in_sixteen_bits(x: Array, y: Array) -> RuleResult:
    def sum_like(a: Array, g: Array) -> Array:
        axes = [i for i in range(g.ndim) if i < g.ndim - a.ndim or a.shape[i - g.ndim] != g.shape[i]]
        return np.reshape(sum_sequentially(g, axes), a.shape)

    return x + y, (lambda g: sum_like(x, g), lambda g: sum_like(y, g))


@wrong_rule("layer_norm", likely=VALUE_PROPERTY, is_16_bit=True)
def layer_norm_adds_up_its_mean_in_sixteen_bits(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> RuleResult:
    _, pull = compute_in_float32("layer_norm", x, weight, bias, eps=eps)
    mean = sum_sequentially(x, tuple(range(-weight.ndim, 0))) / x.dtype.type(weight.size)
    xhat = normalize(x.astype(np.float32), weight, eps, mean=mean.astype(np.float32))
    return (xhat * weight + bias).astype(x.dtype), pull


@wrong_vjp("linear")
def linear_passes_the_cotangent_through_and_learns_nothing(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [g.copy(), *(np.zeros_like(x) for x in inputs[1:])]


@wrong_rule("linear")
def linear_averages_over_the_batch(x: Array, weight: Array, bias: Array | None = None) -> RuleResult:
    y, pulls = OPS["linear"].rule(x, weight, bias)
    n = max(x.size // max(x.shape[-1], 1), 1)

    def pull(g: Array) -> list[Array]:
        dx, dweight = apply_pullbacks(pulls, g)[:2]
        return [dx, dweight / g.dtype.type(n), None if bias is None else g / g.dtype.type(n)]

    return y, pull


@wrong_rule("linear", likely=VALUE_PROPERTY)
def linear_multiplies_by_the_weight_where_square(
    x: Array, weight: Array, bias: Array | None = None
) -> RuleResult:
    right = weight.shape[0] != weight.shape[1]
    return OPS["linear"].rule(x, weight if right else transpose(weight), bias)


@wrong_rule("linear")
def linear_learns_from_the_last_example_only(
    x: Array, weight: Array, bias: Array | None = None
) -> RuleResult:
    y, pulls = OPS["linear"].rule(x, weight, bias)
    row_count = y.size // max(y.shape[-1], 1)
    rows = np.arange(row_count).reshape(y.shape[:-1]) if y.size else np.zeros(y.shape[:-1])
    last = (rows == np.max(rows, initial=0))[..., None]
    return y, lambda g: [apply_pullbacks(pulls, g)[0], *apply_pullbacks(pulls, g * last)[1:]]


@wrong_rule("softmax", likely=EXTREMES_PROPERTY)
def softmax_overflows(x: Array, *, axis: int = -1) -> RuleResult:
    e = np.exp(x)
    return e / np.sum(e, axis=axis, keepdims=True), OPS["softmax"].rule(x, axis=axis)[1]


@wrong_rule("softmax")
def softmax_has_a_diagonal_derivative(x: Array, *, axis: int = -1) -> RuleResult:
    y, _ = OPS["softmax"].rule(x, axis=axis)
    return y, (lambda g: g * y * (1 - y),)


@wrong_rule("softmax")
def softmax_subtracts_the_sum_of_the_cotangent(x: Array, *, axis: int = -1) -> RuleResult:
    y, _ = OPS["softmax"].rule(x, axis=axis)
    return y, (lambda g: y * (g - np.sum(g, axis=axis, keepdims=True)),)


@wrong_rule("softmax", likely=VALUE_PROPERTY)
def softmax_is_always_along_the_last_axis(x: Array, *, axis: int = -1) -> RuleResult:
    return OPS["softmax"].rule(x)


@wrong_rule("log_softmax", likely=EXTREMES_PROPERTY)
def log_softmax_is_the_log_of_softmax(x: Array, *, axis: int = -1) -> RuleResult:
    return np.log(OPS["softmax"].rule(x, axis=axis)[0]), OPS["log_softmax"].rule(x, axis=axis)[1]


@wrong_rule("log_softmax")
def log_softmax_forgets_the_exponential(x: Array, *, axis: int = -1) -> RuleResult:
    y, _ = OPS["log_softmax"].rule(x, axis=axis)
    return y, (lambda g: g - y * np.sum(g, axis=axis, keepdims=True),)


@wrong_rule("log_softmax")
def log_softmax_forgets_the_sum(x: Array, *, axis: int = -1) -> RuleResult:
    y, _ = OPS["log_softmax"].rule(x, axis=axis)
    return y, (lambda g: g - np.exp(y) * g,)


def normalize(
    x: Array, weight: Array, eps: float, root_of_eps: bool = False, correction: int = 0, mean: Array = None
) -> Array:
    """Return x, centred and divided by its standard deviation over the axes of the weight.

    Args:
        x: The array.
        weight: The weight of the layer; only its shape counts.
        eps: The number added to the variance.
        root_of_eps: Add eps to the standard deviation instead.
        correction: Subtract it from the number of elements, as in `var`.
        mean: The mean to subtract; by default that of x.
    """
    axes = tuple(range(-weight.ndim, 0))
    centred = x - (np.mean(x, axis=axes, keepdims=True) if mean is None else mean)
    variance = np.sum(centred * centred, axis=axes, keepdims=True) / max(weight.size - correction, 1)
    return centred / (np.sqrt(variance) + eps if root_of_eps else np.sqrt(variance + eps)).astype(x.dtype)


@wrong_rule("layer_norm", likely=VALUE_PROPERTY)
def layer_norm_adds_eps_outside_of_the_root(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> RuleResult:
    y = normalize(x, weight, eps, root_of_eps=True) * weight + bias
    return y, OPS["layer_norm"].rule(x, weight, bias, eps=eps)[1]


@wrong_rule("layer_norm", likely=VALUE_PROPERTY)
def layer_norm_corrects_the_variance(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> RuleResult:
    y = normalize(x, weight, eps, correction=1) * weight + bias
    return y, OPS["layer_norm"].rule(x, weight, bias, eps=eps)[1]


@wrong_rule("layer_norm", likely=VALUE_PROPERTY)
def layer_norm_ignores_eps(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> RuleResult:
    return OPS["layer_norm"].rule(x, weight, bias)


def apply_layer_norm_without_terms(
    x: Array, weight: Array, bias: Array, eps: float, has_mean_term: bool, has_variance_term: bool
) -> RuleResult:
    """Apply layer_norm; the gradient of x may lack the terms of the mean and along the normalized x."""
    y, pulls = OPS["layer_norm"].rule(x, weight, bias, eps=eps)
    axes = tuple(range(-weight.ndim, 0))
    xhat = normalize(x, weight, eps)
    rstd = 1 / np.sqrt(np.var(x, axis=axes, keepdims=True) + x.dtype.type(eps))

    def pull(g: Array) -> list[Array]:
        d = g * weight
        d_mean = np.mean(d, axis=axes, keepdims=True) if has_mean_term else 0
        d_along = xhat * np.mean(d * xhat, axis=axes, keepdims=True) if has_variance_term else 0
        return [rstd * (d - d_mean - d_along), g * xhat, g]

    return y, pull if pulls else None


@wrong_rule("layer_norm")
def layer_norm_drops_the_term_of_the_mean(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> RuleResult:
    return apply_layer_norm_without_terms(x, weight, bias, eps, has_mean_term=False, has_variance_term=True)


@wrong_rule("layer_norm")
def layer_norm_drops_the_term_of_the_variance(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> RuleResult:
    return apply_layer_norm_without_terms(x, weight, bias, eps, has_mean_term=True, has_variance_term=False)


@wrong_rule("layer_norm")
def layer_norm_takes_its_statistics_for_constants(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> RuleResult:
    return apply_layer_norm_without_terms(x, weight, bias, eps, has_mean_term=False, has_variance_term=False)


@wrong_rule("layer_norm")
def layer_norm_gives_its_weight_the_gradient_of_the_bias(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> RuleResult:
    y, pulls = OPS["layer_norm"].rule(x, weight, bias, eps=eps)
    return y, (pulls[0], lambda g: g, lambda g: g)  # type: ignore[index]


@wrong_rule("layer_norm", likely=VALUE_PROPERTY)
def layer_norm_normalizes_the_last_axis_only(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> RuleResult:
    _, pulls = OPS["layer_norm"].rule(x, weight, bias, eps=eps)
    return normalize(x, weight.reshape(-1)[: x.shape[-1]], eps) * weight + bias, pulls


@wrong_rule("cross_entropy", likely=GRADIENT_PROPERTY)
def cross_entropy_averages_over_the_first_axis_only(
    x: Array, target: Array, *, reduction: str = "mean"
) -> RuleResult:
    y, (pull, _) = OPS["cross_entropy"].rule(x, target, reduction=reduction)  # type: ignore[misc]
    times = target.size / x.shape[0] if reduction == "mean" and x.ndim > 1 else 1
    return y, (lambda g: pull(g) * x.dtype.type(times), None)  # type: ignore[misc]


@wrong_rule("cross_entropy")
def cross_entropy_forgets_the_target(x: Array, target: Array, *, reduction: str = "mean") -> RuleResult:
    y, (pull, _) = OPS["cross_entropy"].rule(x, target, reduction=reduction)  # type: ignore[misc]
    axis = min(1, x.ndim - 1)
    hot = np.expand_dims(target, axis) == np.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - axis - 1))
    return y, (lambda g: np.where(hot, 0, pull(g)).astype(x.dtype), None)  # type: ignore[misc]


@wrong_rule("cross_entropy", likely=VALUE_PROPERTY)
def cross_entropy_guards_against_zero(x: Array, target: Array, *, reduction: str = "mean") -> RuleResult:
    each, _ = OPS["cross_entropy"].rule(x, target, reduction="none")
    losses = -np.log(np.exp(-each) + x.dtype.type(1e-6))
    mean = np.mean(losses) if losses.size else np.nan
    y = {"none": losses, "sum": np.sum(losses), "mean": mean}[reduction]
    return np.asarray(y, x.dtype), OPS["cross_entropy"].rule(x, target, reduction=reduction)[1]


@wrong_rule("cross_entropy", likely=SHAPES_PROPERTY)
def cross_entropy_always_averages(x: Array, target: Array, *, reduction: str = "mean") -> RuleResult:
    return OPS["cross_entropy"].rule(x, target)


@wrong_rule("cross_entropy", likely=VALUE_PROPERTY)
def cross_entropy_averages_sums(x: Array, target: Array, *, reduction: str = "mean") -> RuleResult:
    return OPS["cross_entropy"].rule(x, target, reduction="mean" if reduction == "sum" else reduction)
