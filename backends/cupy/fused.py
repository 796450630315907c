"""Which ops have fused kernels, and what takes their place where those do not apply: 0 elements, a pass that is recorded."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import cupy
import numpy as np

from gradspec.backends.cupy import rows
from gradspec.backends.cupy.launch import ACTIVATIONS, FUNCTIONS, kernel, takes, width
from gradspec.backends.cupy.rules import OWN, Rule, wide
from gradspec.backends.cupy.sums import outer, sum_to, sums
from gradspec.reference import OPS
from gradspec.reference.arrays import unbroadcast
from gradspec.reference.record import record
from gradspec.reference.tape import VJP, Array, Pullback

THREADS = 256  # of a block that goes over elements, and a multiprocessor holds eight of them


def summed(g: Array, shape: tuple[int, ...]) -> Array:
    """G summed to a shape, by a kernel where it can."""
    return sum_to(g, shape) if takes(g) else unbroadcast(g, shape)


def either(fused: Callable[..., VJP | None], otherwise: Rule) -> Rule:
    """The fused rule, and where it returns None the other one."""
    other = wide(otherwise, summed)

    @wraps(otherwise)
    def rule(*xs: Any, **keywords: Any) -> VJP:
        made = fused(*xs, **keywords)
        return other(*xs, **keywords) if made is None else made

    return rule


# Functions of one argument


def _elementwise(name: str) -> Callable[..., VJP | None]:
    def rule(x: Array, *, approximate: str = "none") -> VJP | None:
        function = name if approximate == "none" else f"{name} {approximate}"
        if not takes(x) or function not in FUNCTIONS:
            return None
        x = cupy.ascontiguousarray(x)
        return _over(function, "value_of", x), (lambda g: _over(function, "pull_of", x, g),)

    return rule


def _over(function: str, what: str, *xs: Array) -> Array:
    """A kernel of elementwise.cu over contiguous arrays of one shape."""
    xs = tuple(map(cupy.ascontiguousarray, xs))
    y = cupy.empty(xs[0].shape, xs[0].dtype)
    vector = width(0, *xs, y)  # what is left over at the end goes one by one
    launch = kernel("elementwise", f"{what}<T,V,{FUNCTIONS[function]}>", y.dtype.name, vector)
    launch((-(-y.size // (THREADS * vector)),), (THREADS,), (*xs, y, np.int64(y.size)))
    return y


# Products of what is broadcast


def multiply(x: Array, y: Array) -> VJP | None:
    """A column times a row: both gradients from one pass over g, and no product is stored."""
    if not takes(x, y):
        return None
    value = x * y
    for first, second, order in ((x, y, (0, 1)), (y, x, (1, 0))):
        if sizes := outer(value.shape, first.shape, second.shape):
            pull = _pull_outer(first, second, sizes)
            return value, lambda g: tuple(pull(g)[i] for i in order)  # noqa: B023 - returned at once
    return value, (lambda g: _pull_product(g, y, x.shape), lambda g: _pull_product(g, x, y.shape))


def _pull_outer(a: Array, b: Array, sizes: tuple[int, int]) -> Callable[[Array], tuple[Array, ...]]:
    a, b = cupy.ascontiguousarray(a), cupy.ascontiguousarray(b)

    def pull(g: Array) -> tuple[Array, ...]:
        table = cupy.ascontiguousarray(g).reshape(1, *sizes)
        found = sums(table, a=a, b=b, by_row=True, by_column=True)
        return tuple(
            d.astype(x.dtype, copy=False).reshape(x.shape)
            for d, x in ((found.by_row, a), (found.by_column, b))
        )

    return pull


def _pull_product(g: Array, y: Array, shape: tuple[int, ...]) -> Array:
    """The product of g and y summed to a shape; in one pass where y is a whole table and the shape a row of it."""
    ndim = len(shape)
    if g.shape == shape:
        return g * y
    if y.shape != g.shape or shape != g.shape[g.ndim - ndim :] or not ndim:
        return _rounded_sum(g, y, shape)
    n = int(np.prod(shape))
    table, other = (cupy.ascontiguousarray(t).reshape(1, -1, n) for t in (g, y))
    found = sums(table, x=other, function="times", plain=True).plain
    return found.reshape(shape).astype(g.dtype, copy=False)


def _rounded_sum(g: Array, y: Array, shape: tuple[int, ...]) -> Array:
    """As it is written, but for 16-bit floats, whose products must not be rounded before they are summed."""
    if g.dtype.itemsize > 2:
        return sum_to(g * y, shape)
    return sum_to(g.astype(np.float32) * y, shape).astype(g.dtype)


def _multiply_add(a: Array, b: Array, c: Array) -> VJP:
    return a * b + c, (lambda g: g * b, lambda g: g * a, lambda g: g)


def _fused_multiply_add(a: Array, b: Array, c: Array) -> VJP | None:
    if not takes(a, b, c) or b.shape != c.shape:
        return None
    value, _ = wide(_multiply_add)(a, b, c)
    sizes = outer(value.shape, a.shape, b.shape)
    if sizes is None:
        return None
    x, y = cupy.ascontiguousarray(a), cupy.ascontiguousarray(b)

    def pull(g: Array) -> tuple[Array, ...]:
        table = cupy.ascontiguousarray(g).reshape(1, *sizes)
        found = sums(table, a=x, b=y, by_row=True, by_column=True, plain=True)
        return tuple(
            d.reshape(s.shape).astype(s.dtype, copy=False) for d, s in zip(found, (a, b, c), strict=True)
        )

    return value, pull


def _as_it_is(name: str) -> Callable[..., VJP | None]:
    """The spec's rule for 16-bit floats too: it rounds each result once, and sums are the kernels'."""

    def rule(*xs: Array | None) -> VJP | None:
        given = [x for x in xs if x is not None]
        if not takes(*given):
            return None
        value, pullbacks = OPS[name].rule(*xs)
        pairs = zip(cast(tuple[Pullback | None, ...], pullbacks), xs, strict=False)
        return value, tuple(pull and _summing(pull, cast(Array, x).shape) for pull, x in pairs)

    return rule


def _summing(pull: Pullback, shape: tuple[int, ...]) -> Pullback:
    return lambda g: summed(pull(g), shape)


# Products of matrices. Those of 16-bit floats cuBLAS adds up in float32 and rounds once; of batches CuPy makes float32.


def matmul(x: Array, y: Array) -> VJP | None:
    return _as_it_is("matmul")(x, y) if x.ndim == y.ndim == 2 else None


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
    y, vector = cupy.empty(x.shape, x.dtype), width(bias.size, x, bias)
    launch = kernel("table", f"with_bias<T,V,{FUNCTIONS[activation]}>", x.dtype.name, vector)
    sizes = np.int64(x.size // n), np.int64(n)
    launch((-(-x.size // (THREADS * vector)),), (THREADS,), (x, bias, y, *sizes))

    def pull(g: Array) -> tuple[Array, Array]:
        dx, table = cupy.empty(x.shape, x.dtype), (1, x.size // n, n)
        g, xs = (cupy.ascontiguousarray(t).reshape(table) for t in (g, x))
        found = sums(g, x=xs, bias=bias, dx=dx.reshape(table), function=activation, plain=True)
        return dx, found.plain.reshape(n).astype(x.dtype, copy=False)

    return y, pull


RULES: dict[str, Rule] = {name: wide(op.rule, summed) for name, op in OPS.items()}
RULES |= {name: wide(rule, summed) for name, rule in OWN.items()}
RULES |= {name: either(_as_it_is(name), OPS[name].rule) for name in ("add", "subtract", "linear")}
RULES |= {
    name: either(_elementwise(name), OWN.get(name, OPS[name].rule)) for name in FUNCTIONS if name in OPS
}
RULES |= {name: either(rows.softmax_rule(name), OPS[name].rule) for name in ("softmax", "log_softmax")}
RULES |= {
    "cross_entropy": either(rows.cross_entropy, OWN["cross_entropy"]),
    "layer_norm": either(rows.layer_norm, OPS["layer_norm"].rule),
    "multiply": either(multiply, OPS["multiply"].rule),
    "matmul": either(matmul, OPS["matmul"].rule),
}
"""Every op, fused where that pays."""

bias_activation = record(either(_fused_bias_activation, _bias_activation))
"""`activation(x + bias)` for x: (..., n) and bias: (n); its gradients come from one pass over x and the cotangent.

activation: one of `ACTIVATIONS`. Takes arrays of CuPy and variables, as every op does.
"""

multiply_add = record(either(_fused_multiply_add, _multiply_add))
"""`a * b + c`; where a is a column and b and c are rows, all three gradients come from one pass over the cotangent."""
