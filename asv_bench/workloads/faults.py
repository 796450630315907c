"""Planted faults: wrong rules of the kinds that people write, each as a backend of one op.

`harness.Finding` times how long the properties take to find each. To run them on one:

pytest --pyargs gradspec.properties -p gradspec.properties.plugin --backend asv_bench.workloads.faults:silu
"""

import numpy as np

from asv_bench.workloads.calls import Array
from gradspec.backends import Backend, load
from gradspec.reference import OPS, VJP, record


def _make_wrong_backend(name: str, rule: object) -> Backend:
    return load("numpy").with_ops(name=f"wrong {name}", **{name: record(rule)})  # type: ignore[arg-type]


def _silu_misplaces_a_parenthesis(x: Array) -> VJP:
    """Misplace a parenthesis: 1 + x - s in place of 1 + x (1 - s)."""
    s = 1 / (1 + np.exp(-x))
    return x * s, (lambda g: g * s * (1 + x - s),)


def _softmax_ignores_other_elements(x: Array, *, axis: int = -1) -> VJP:
    """Differentiate each element by itself alone."""
    y, _ = OPS["softmax"].rule(x, axis=axis)
    return y, (lambda g: g * y * (1 - y),)


def _maximum_gives_ties_to_both(x: Array, y: Array) -> VJP:
    """Give all of the cotangent to both at a tie."""
    return np.maximum(x, y), (lambda g: g * (x >= y), lambda g: g * (y >= x))


def _layer_norm_takes_mean_and_variance_for_constants(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5
) -> VJP:
    """Take the mean and the variance for constants."""
    y, _ = OPS["layer_norm"].rule(x, weight, bias, eps=eps)
    axes = tuple(range(-weight.ndim, 0))
    centred = x - np.mean(x, axis=axes, keepdims=True)
    rstd = 1 / np.sqrt(np.mean(centred * centred, axis=axes, keepdims=True) + eps)
    return y, (lambda g: g * weight * rstd, lambda g: g * centred * rstd, lambda g: g)


def _log1p_adds_one_first(x: Array) -> VJP:
    """Compute log(1 + x), which is right except for rounding: 1 + x loses the low bits of a small x."""
    return np.log(1 + x), (lambda g: g / (1 + x),)


PROPERTY_MODULE_BY_FAULT = {
    "silu": "test_gradient",
    "softmax": "test_gradient",
    "maximum": "test_kinks",
    "layer_norm": "test_gradient",
    "log1p": "test_value",
}
"""The name of each fault, and the module of the property that must find it."""

silu = _make_wrong_backend("silu", _silu_misplaces_a_parenthesis)
softmax = _make_wrong_backend("softmax", _softmax_ignores_other_elements)
maximum = _make_wrong_backend("maximum", _maximum_gives_ties_to_both)
layer_norm = _make_wrong_backend("layer_norm", _layer_norm_takes_mean_and_variance_for_constants)
log1p = _make_wrong_backend("log1p", _log1p_adds_one_first)
