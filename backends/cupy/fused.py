"""Which ops have fused kernels, and what takes their place where those do not apply: 0 elements, a pass that is recorded."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import cupy

from gradspec.backends.cupy import pairs, rows
from gradspec.backends.cupy.elementwise import elementwise_rule
from gradspec.backends.cupy.launch import ACTIVATIONS, FUNCTIONS, PAIRS, takes
from gradspec.backends.cupy.rules import OWN, Rule, wide
from gradspec.backends.cupy.sums import reduction_rule, summed, sums
from gradspec.reference import OPS
from gradspec.reference.record import record
from gradspec.reference.tape import VJP, Array, Pullback


def either(fused: Callable[..., VJP | None], otherwise: Rule) -> Rule:
    """The fused rule, and where it returns None the other one."""
    other = wide(otherwise, summed)

    @wraps(otherwise)
    def rule(*xs: Any, **keywords: Any) -> VJP:
        made = fused(*xs, **keywords)
        return other(*xs, **keywords) if made is None else made

    return rule


# Products of matrices. Those of 16-bit floats cuBLAS adds up in float32 and rounds once; of batches CuPy makes float32.


def matmul(x: Array, y: Array) -> VJP | None:
    """The spec's rule as it stands, for 16-bit floats too."""
    return OPS["matmul"].rule(x, y) if takes(x, y) and x.ndim == y.ndim == 2 else None


def linear(x: Array, weight: Array, bias: Array | None = None) -> VJP | None:
    """The spec's rule as it stands, for 16-bit floats too, with kernels for the bias and its gradient."""
    if bias is None:
        return OPS["linear"].rule(x, weight) if takes(x, weight) else None
    if not takes(x, weight, bias) or bias.shape != weight.shape[:1]:
        return None
    value, pullbacks = OPS["linear"].rule(x, weight)
    to_x, to_weight, _ = cast(tuple[Pullback, ...], pullbacks)
    y = cast(Array, pairs.value_of(PAIRS["add"], value, bias))
    return y, (to_x, to_weight, lambda g: summed(g, bias.shape))


# An activation with its bias


def _bias_activation(x: Array, bias: Array, *, activation: str = "relu") -> VJP:
    z = x + bias
    value, pullbacks = RULES[activation](z)
    pull = pullbacks[0]  # type: ignore[index]
    return value, (pull, pull)


def _fused_bias_activation(x: Array, bias: Array, *, activation: str = "relu") -> VJP | None:
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"bias_activation: activation is {activation!r}; allowed are {', '.join(ACTIVATIONS)}"
        )
    if not takes(x, bias) or bias.ndim != 1 or x.ndim < 1 or x.shape[-1] != bias.size:
        return None
    n, x, bias = bias.size, cupy.ascontiguousarray(x), cupy.ascontiguousarray(bias)
    y = cast(Array, pairs.value_of(f"biased<{FUNCTIONS[activation]}>", x, bias))

    def pull(g: Array) -> tuple[Array, Array]:
        dx = cupy.empty(x.shape, x.dtype)
        gs, xs, dxs = (cupy.ascontiguousarray(t).reshape(1, x.size // n, n) for t in (g, x, dx))
        found = sums(gs, x.dtype, x=xs, bias=bias, dx=dxs, function=activation, plain=True)
        return dx, found.plain.reshape(n)

    return y, pull


RULES: dict[str, Rule] = {name: wide(op.rule, summed) for name, op in OPS.items()}
RULES |= {name: wide(rule, summed) for name, rule in OWN.items()}
RULES |= {
    name: either(elementwise_rule(name), OWN.get(name, OPS[name].rule)) for name in FUNCTIONS if name in OPS
}
RULES |= {name: either(pairs.pair_rule(name), OPS[name].rule) for name in PAIRS}
RULES |= {name: either(rows.softmax_rule(name), OPS[name].rule) for name in ("softmax", "log_softmax")}
RULES |= {
    "cross_entropy": either(rows.cross_entropy_rule(ahead=False), OWN["cross_entropy"]),
    "layer_norm": either(rows.layer_norm, OPS["layer_norm"].rule),
    "linear": either(linear, OPS["linear"].rule),
    "matmul": either(matmul, OPS["matmul"].rule),
    "sum": either(reduction_rule(of_means=False), OPS["sum"].rule),
    "mean": either(reduction_rule(of_means=True), OPS["mean"].rule),
}
"""Every op, fused where that pays."""

AHEAD = {"cross_entropy": either(rows.cross_entropy_rule(ahead=True), OWN["cross_entropy"])}
"""What takes their place where gradients will be asked for: rules that compute them in the forward pass."""

bias_activation = record(either(_fused_bias_activation, _bias_activation))
"""`activation(x + bias)` for x: (..., n) and bias: (n); its gradients come from one pass over x and the cotangent.

activation: one of `ACTIVATIONS`. Takes arrays of CuPy and variables, as every op does.
"""

multiply_add = record(either(pairs.fused_multiply_add, pairs.multiply_add))
"""`a * b + c`; where a is a column and b and c are rows, all three gradients come from one pass over the cotangent."""
