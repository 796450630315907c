"""Which ops have fused kernels, and the rules that take their place where those do not apply.

They do not apply to arrays of 0 elements, for example, or to variables, on which a pass is recorded.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import cupy

from gradspec.backends.cupy import binary, rows
from gradspec.backends.cupy.elementwise import elementwise_rule
from gradspec.backends.cupy.launch import (
    BIAS_ACTIVATIONS,
    CPP_BINARY_FUNCTIONS,
    CPP_UNARY_FUNCTIONS,
    are_supported,
)
from gradspec.backends.cupy.rules import COMPOSED_RULES, RULES_OVERRIDING_SPEC, Rule, widen_rule
from gradspec.backends.cupy.sums import reduction_rule, sum_table, sum_to_shape
from gradspec.reference import OPS
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array, Pullback


def with_fallback(fused: Callable[..., VJP | None], otherwise: Rule) -> Rule:
    """Return a rule that is the fused one, and the other one where that returns None."""
    other = widen_rule(otherwise, sum_to_shape)

    @wraps(otherwise)
    def rule(*xs: Any, **keywords: Any) -> VJP:
        result = fused(*xs, **keywords)
        return other(*xs, **keywords) if result is None else result

    return rule


# Products of matrices. cuBLAS adds up those of 16-bit floats in float32 and rounds once; CuPy makes batches
# float32.


def matmul(x: Array, y: Array) -> VJP | None:
    """Compute by the spec's rule unchanged, for 16-bit floats too; None for all but two matrices."""
    return OPS["matmul"].rule(x, y) if are_supported(x, y) and x.ndim == y.ndim == 2 else None


def linear(x: Array, weight: Array, bias: Array | None = None) -> VJP | None:
    """Compute by the spec's rule unchanged, for 16-bit floats too; kernels add and pull back the bias."""
    if bias is None:
        return OPS["linear"].rule(x, weight) if are_supported(x, weight) else None
    if not are_supported(x, weight, bias) or bias.shape != weight.shape[:1]:
        return None
    value, pullbacks = OPS["linear"].rule(x, weight)
    to_x, to_weight, _ = cast(tuple[Pullback, ...], pullbacks)
    y = cast(Array, binary.launch_binary(CPP_BINARY_FUNCTIONS["add"], value, bias))
    return y, (to_x, to_weight, lambda g: sum_to_shape(g, bias.shape))


# An activation with its bias


def _bias_activation(x: Array, bias: Array, *, activation: str = "relu") -> VJP:
    z = x + bias
    value, pullbacks = FUSED_RULES[activation](z)
    pull = pullbacks[0]  # type: ignore[index]
    return value, (pull, pull)


def _fused_bias_activation(x: Array, bias: Array, *, activation: str = "relu") -> VJP | None:
    if activation not in BIAS_ACTIVATIONS:
        allowed = ", ".join(BIAS_ACTIVATIONS)
        raise ValueError(f"bias_activation: activation is {activation!r}; allowed are {allowed}")
    if not are_supported(x, bias) or bias.ndim != 1 or x.ndim < 1 or x.shape[-1] != bias.size:
        return None
    n, x, bias = bias.size, cupy.ascontiguousarray(x), cupy.ascontiguousarray(bias)
    y = cast(Array, binary.launch_binary(f"biased<{CPP_UNARY_FUNCTIONS[activation]}>", x, bias))

    def pull(g: Array) -> tuple[Array, Array]:
        dx = cupy.empty(x.shape, x.dtype)
        gs, xs, dxs = (cupy.ascontiguousarray(t).reshape(1, x.size // n, n) for t in (g, x, dx))
        sums = sum_table(gs, x.dtype, x=xs, bias=bias, dx=dxs, function=activation, plain=True)
        return dx, sums.plain.reshape(n)

    return y, pull


FUSED_RULES: dict[str, Rule] = {name: widen_rule(OPS[name].rule, sum_to_shape) for name in COMPOSED_RULES}
FUSED_RULES |= {name: widen_rule(rule, sum_to_shape) for name, rule in RULES_OVERRIDING_SPEC.items()}
FUSED_RULES |= {
    name: with_fallback(elementwise_rule(name), RULES_OVERRIDING_SPEC.get(name, OPS[name].rule))
    for name in CPP_UNARY_FUNCTIONS
    if name in OPS
}
FUSED_RULES |= {
    name: with_fallback(binary.binary_rule(name), OPS[name].rule) for name in CPP_BINARY_FUNCTIONS
}
FUSED_RULES |= {
    name: with_fallback(rows.softmax_rule(name), OPS[name].rule) for name in ("softmax", "log_softmax")
}
FUSED_RULES |= {
    "cross_entropy": with_fallback(
        rows.cross_entropy_rule(eager_gradient=False), RULES_OVERRIDING_SPEC["cross_entropy"]
    ),
    "layer_norm": with_fallback(rows.layer_norm, OPS["layer_norm"].rule),
    "linear": with_fallback(linear, OPS["linear"].rule),
    "matmul": with_fallback(matmul, OPS["matmul"].rule),
    "sum": with_fallback(reduction_rule(of_means=False), OPS["sum"].rule),
    "mean": with_fallback(reduction_rule(of_means=True), OPS["mean"].rule),
}
"""Every op, fused where that pays."""

EAGER_GRADIENT_RULES = {
    "cross_entropy": with_fallback(
        rows.cross_entropy_rule(eager_gradient=True), RULES_OVERRIDING_SPEC["cross_entropy"]
    )
}
"""Rules for where gradients will be asked for: they compute them in the forward pass."""

bias_activation = record(with_fallback(_fused_bias_activation, _bias_activation))
"""`activation(x + bias)` for x: (..., n) and bias: (n).

Its gradients come from one pass over x and the cotangent. The keyword `activation` is one of `ACTIVATIONS`.
Like every op it takes CuPy arrays and variables.
"""

multiply_add = record(with_fallback(binary.fused_multiply_add, binary.multiply_add))
"""`a * b + c`.

Where a is a column and b and c are rows, all three gradients come from one pass over the cotangent.
"""
