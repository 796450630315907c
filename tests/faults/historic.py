"""Faults that libraries once had as bugs, planted in the spec's ops; each names where it was reported."""

from typing import Any

import numpy as np

from gradspec.reference import OPS
from tests.faults.by_memory import read_in_the_order_of_memory, read_with_no_stride_of_zero
from tests.faults.fault import (
    ELEMENTWISE_EXTREMES_PROPERTY,
    EXTREMES_PROPERTY,
    KINKS_PROPERTY,
    LAYOUTS_PROPERTY,
    SHAPES_PROPERTY,
    VALUE_PROPERTY,
    Array,
    RuleResult,
)
from tests.faults.own import apply_pullbacks, wrong_rule, wrong_vjp
from tests.faults.own_reductions import Axis, keepdims_shape

GITHUB = "https://github.com"


@wrong_rule("prod", source=f"{GITHUB}/pytorch/pytorch/issues/773")
def prod_divides_its_value_by_x(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y, _ = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)
    return y, (lambda g: np.reshape(g * y, keepdims_shape(x, axis)) / x,)


@wrong_vjp("prod", likely=SHAPES_PROPERTY, source=f"{GITHUB}/pytorch/pytorch/issues/82644")
def prod_of_a_single_zero_has_a_gradient_of_no_dimensions(inputs: Array, value: Array, pull: Array) -> Array:
    single_zero = inputs[0].size == 1 and not inputs[0].any()
    return value, lambda g: [np.reshape(d, ()) if single_zero else d for d in pull(g)]


@wrong_rule("pow", likely=ELEMENTWISE_EXTREMES_PROPERTY, source=f"{GITHUB}/pytorch/pytorch/issues/8940")
def pow_of_zero_to_the_zero_has_no_gradient(x: Array, y: Array) -> RuleResult:
    z, (_, to_y) = OPS["pow"].rule(x, y)  # type: ignore[misc]
    return z, (lambda g: g * y * np.pow(x, y - 1), to_y)


@wrong_rule("pow", likely=ELEMENTWISE_EXTREMES_PROPERTY, source=f"{GITHUB}/roystgnr/MetaPhysicL/pull/49")
def pow_divides_its_value_by_x(x: Array, y: Array) -> RuleResult:
    z, (_, to_y) = OPS["pow"].rule(x, y)  # type: ignore[misc]
    return z, (lambda g: g * y * (z / x), to_y)


@wrong_rule("pow", likely=ELEMENTWISE_EXTREMES_PROPERTY, source=f"{GITHUB}/tensorflow/tfjs/issues/346")
def pow_multiplies_zero_by_the_logarithm_of_zero(x: Array, y: Array) -> RuleResult:
    z, (to_x, _) = OPS["pow"].rule(x, y)  # type: ignore[misc]
    return z, (to_x, lambda g: g * z * np.log(x))


@wrong_rule("clip", likely=EXTREMES_PROPERTY, source=f"{GITHUB}/pytorch/pytorch/issues/15338")
def clip_turns_nan_into_a_bound(x: Array, min: Array, max: Array | None = None) -> RuleResult:  # noqa: A002
    raised = np.fmax(x, min)
    return raised if max is None else np.fmin(raised, max), OPS["clip"].rule(x, min, max)[1]


@wrong_rule("logsumexp", likely=EXTREMES_PROPERTY, source=f"{GITHUB}/HenrikBengtsson/matrixStats/issues/84")
def logsumexp_of_minus_infinity_alone_is_nan(
    x: Array, *, axis: Axis = None, keepdims: bool = False
) -> RuleResult:
    top = np.max(x, axis=axis, keepdims=True)
    shift = np.where(top == np.inf, 0, top)
    y = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    value, pulls = OPS["logsumexp"].rule(x, axis=axis, keepdims=keepdims)
    return np.reshape(y, value.shape).astype(x.dtype), pulls


@wrong_rule("max", likely=KINKS_PROPERTY, source=f"{GITHUB}/apache/mxnet/issues/18563")
def max_pays_every_winner(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
    y = np.max(x, axis=axis, keepdims=True)
    return np.max(x, axis=axis, keepdims=keepdims), (lambda g: np.reshape(g, y.shape) * (x == y),)


@wrong_rule("softplus", likely=ELEMENTWISE_EXTREMES_PROPERTY, source=f"{GITHUB}/apache/tvm/pull/20212")
def softplus_is_the_identity_from_twenty_on(x: Array) -> RuleResult:
    y, pulls = OPS["softplus"].rule(x)
    return np.where(x >= 20, x, y), pulls


@wrong_rule("getitem", source=f"{GITHUB}/pytorch/pytorch/issues/1528")
def getitem_overwrites_where_an_index_recurs(x: Array, *, key: Any) -> RuleResult:
    def pull(g: Array) -> Array:
        d = np.zeros(x.shape, g.dtype)
        d[key] = g
        return d

    return x[key], (pull,)


@wrong_rule("getitem", source=f"{GITHUB}/ml-explore/mlx/issues/4444")
def getitem_gives_what_one_of_a_span_gets_to_all_of_it(x: Array, *, key: Any) -> RuleResult:
    """A slice that picks one element is taken for one of step 1, whatever its step, even a negative one."""
    y, (pull,) = OPS["getitem"].rule(x, key=key)  # type: ignore[misc]
    if not isinstance(key, tuple) or not all(k is Ellipsis or isinstance(k, int | slice) for k in key):
        return y, (pull,)
    middle = key.index(Ellipsis) if Ellipsis in key else len(key)
    before, after = key[:middle], key[middle + 1 :]
    spans = [slice(None)] * x.ndim
    for axis, part in [*enumerate(before), *enumerate(after, x.ndim - len(after))]:
        start, stop, step = part.indices(x.shape[axis]) if isinstance(part, slice) else (0, 0, 1)
        spans[axis] = slice(start, stop) if len(range(start, stop, step)) == 1 else part

    def spread(g: Array) -> Array:
        d = np.zeros(x.shape, g.dtype)
        d[tuple(spans)] = g
        return d

    return y, (spread,)


@wrong_vjp("layer_norm", likely=SHAPES_PROPERTY, source=f"{GITHUB}/pytorch/pytorch/pull/192016")
def layer_norm_flattens_the_gradient_of_a_weight_of_several_axes(
    inputs: Array, value: Array, pull: Array
) -> Array:
    return value, lambda g: [d if i == 0 else d.ravel() for i, d in enumerate(pull(g))]


@wrong_rule("layer_norm", source=f"{GITHUB}/flagos-ai/FlagGems/issues/5392")
def layer_norm_takes_the_first_axis_for_all_rows(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> RuleResult:
    y, pulls = OPS["layer_norm"].rule(x, weight, bias, eps=eps)
    rows = x.shape[0] if x.ndim > weight.ndim else 1
    if not x.size or x.size // rows == weight.size:
        return y, pulls
    flat = x.reshape(rows, -1)
    wide = np.resize(weight, flat.shape[-1]).astype(x.dtype)
    _, wrong_pulls = OPS["layer_norm"].rule(flat, wide, wide, eps=eps)
    return y, lambda g: [
        apply_pullbacks(wrong_pulls, g.reshape(flat.shape))[0].reshape(x.shape),
        *apply_pullbacks(pulls, g)[1:],
    ]


@wrong_rule("layer_norm", likely=VALUE_PROPERTY, source=f"{GITHUB}/pytorch/pytorch/issues/188372")
def layer_norm_of_one_pass_cancels(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> RuleResult:
    axes = tuple(range(-weight.ndim, 0))
    mean = np.mean(x, axis=axes, keepdims=True)
    variance = np.maximum(np.mean(x * x, axis=axes, keepdims=True) - mean * mean, 0)
    rstd = 1 / np.sqrt(variance + x.dtype.type(eps))
    return (x * rstd - mean * rstd) * weight + bias, OPS["layer_norm"].rule(x, weight, bias, eps=eps)[1]


@wrong_rule("matmul", source=f"{GITHUB}/harvard-edge/cs249r_book/pull/1781")
def matmul_by_a_vector_transposes_nothing(x: Array, y: Array) -> RuleResult:
    z, pulls = OPS["matmul"].rule(x, y)
    if y.ndim > 1 or x.ndim != 2:
        return z, pulls
    return z, lambda g: [
        np.broadcast_to(np.matmul(g, y), x.shape) if g.shape == y.shape else None,
        apply_pullbacks(pulls, g)[1],
    ]


@wrong_vjp("matmul", likely=SHAPES_PROPERTY, source=f"{GITHUB}/tensorflow/tfjs/issues/8721")
def matmul_does_not_sum_over_the_batch(inputs: Array, value: Array, pull: Array) -> Array:
    def pull_unsummed(g: Array) -> list[Array]:
        batch = g.shape[: max(g.ndim - 2, 0)]
        return [
            np.broadcast_to(d, (*batch, *d.shape[-2:])).copy() if 2 <= d.ndim < g.ndim else d for d in pull(g)
        ]

    return value, pull_unsummed


@wrong_vjp("multiply", likely=SHAPES_PROPERTY, source=f"{GITHUB}/tenstorrent/tt-metal/issues/40008")
def multiply_does_not_sum_over_broadcast_axes(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [(g * inputs[1 - i]).astype(d.dtype) for i, d in enumerate(pull(g))]


@wrong_vjp("add", likely=SHAPES_PROPERTY, source=f"{GITHUB}/pytorch/pytorch/issues/913")
def add_gives_the_smaller_array_the_shape_of_the_larger(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [d.reshape((*d.shape, *(1,) * (g.ndim - d.ndim))) for d in pull(g)]


@wrong_rule("expm1", likely=VALUE_PROPERTY, source=f"{GITHUB}/CE-Programming/toolchain/issues/515")
def expm1_subtracts_one(x: Array) -> RuleResult:
    return np.exp(x) - 1, OPS["expm1"].rule(x)[1]


@wrong_rule("log1p", likely=VALUE_PROPERTY, source=f"{GITHUB}/CE-Programming/toolchain/issues/515")
def log1p_adds_one(x: Array) -> RuleResult:
    return np.log(1 + x), OPS["log1p"].rule(x)[1]


@wrong_rule("softmax", is_16_bit=True, source=f"{GITHUB}/ROCm/MIOpen/pull/3427")
def softmax_adds_up_in_sixteen_bits(x: Array, *, axis: int = -1) -> RuleResult:
    y = OPS["softmax"].rule(x.astype(np.float32), axis=axis)[0].astype(x.dtype)

    def pull(g: Array) -> Array:
        products = np.add.accumulate((g * y).astype(x.dtype), axis=axis, dtype=x.dtype)
        return y * (g - np.take(products, [-1], axis))

    return y, (pull,)


@wrong_rule("log_softmax", likely=EXTREMES_PROPERTY, is_16_bit=True, source=f"{GITHUB}/jax-ml/jax/pull/40474")
def log_softmax_adds_up_its_cotangent_in_sixteen_bits(x: Array, *, axis: int = -1) -> RuleResult:
    y = OPS["log_softmax"].rule(x.astype(np.float32), axis=axis)[0].astype(x.dtype)

    def pull(g: Array) -> Array:
        total = np.take(np.add.accumulate(g, axis=axis, dtype=x.dtype), [-1], axis)
        return g - np.exp(y) * total

    return y, (pull,)


@wrong_rule("mean", likely=LAYOUTS_PROPERTY, source=f"{GITHUB}/torch/nn/pull/345")
def mean_takes_its_cotangent_for_contiguous(
    x: Array, *, axis: Axis = None, keepdims: bool = False
) -> RuleResult:
    y, (pull,) = OPS["mean"].rule(x, axis=axis, keepdims=keepdims)  # type: ignore[misc]
    return y, (lambda g: pull(read_in_the_order_of_memory(g)),)  # type: ignore[misc]


@wrong_rule("reshape", likely=LAYOUTS_PROPERTY, source=f"{GITHUB}/torch/DEPRECEATED-torch7-distro/issues/5")
def reshape_takes_its_cotangent_for_contiguous(x: Array, *, shape: Any) -> RuleResult:
    return np.reshape(x, shape), (lambda g: np.reshape(g.ravel(order="K"), x.shape),)


@wrong_rule("cross_entropy", likely=LAYOUTS_PROPERTY, source=f"{GITHUB}/ROCm/TransformerEngine/pull/623")
def cross_entropy_takes_an_expanded_cotangent_for_dense(
    x: Array, target: Array, *, reduction: str = "mean"
) -> RuleResult:
    y, (pull, _) = OPS["cross_entropy"].rule(x, target, reduction=reduction)  # type: ignore[misc]
    return y, (lambda g: pull(read_with_no_stride_of_zero(g)), None)  # type: ignore[misc]
