"""Right in another way: results laid out otherwise in memory, and computed in higher precision and rounded once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import numpy as np

from faults import planted
from faults.by_precision import MOVING
from faults.fault import Array, Made, pullbacks, summed
from faults.right import LAYOUT, WIDER, add
from gradspec.backends import Backend
from gradspec.properties.generating.layouts import LAYOUTS
from gradspec.reference import OPS

WIDE = {"float64": np.longdouble, "float32": np.float64, "float16": np.float32, "bfloat16": np.float32}

VIEWS = MOVING - {"concat", "stack"}
"""Ops whose value may be a view of their array."""

LAID_OUT: dict[str, Sequence[str]] = {
    "fortran": ("multiply", "matmul", "layer_norm"),
    "strided": ("tanh", "sum", "concat"),
    "reversed": ("where", "softmax", "linear"),
    "read-only": ("divide", "max", "stack"),
    "expanded": ("add", "mean", "broadcast_to"),
}
"""How results lie in memory, and of which ops that is tried."""

SIXTEEN = ("multiply", "sigmoid", "sum", "softmax", "layer_norm", "matmul", "linear", "cross_entropy")
"""Of which ops 16-bit floats are tried as well."""


def value_of_views(op: str) -> Backend:
    """The value as NumPy gives it, in the memory of the array."""

    def vjp(fn: Callable[..., Any], *inputs: Array) -> Any:
        return fn(*inputs), planted.SPEC.vjp(fn, *inputs)[1]

    return replace(planted.SPEC, name="right", ops={op: planted.SPEC.ops[op]}, vjp=vjp, nests=False)


def laid_out(op: str, layout: str) -> Backend:
    """Value and gradients in this layout."""
    lay = LAYOUTS[layout]

    def change(_: Array, value: Array, pull: Array) -> Any:
        return lay(np.asarray(value)), lambda g: [lay(d) for d in pull(g)]

    return planted.of_vjp(op, change)


def wider(op: str, dtypes: Sequence[str] = ("float64", "float32")) -> Backend:
    """The spec's rule in the next wider dtype, value and gradients rounded once."""

    @wraps(OPS[op].rule)
    def rule(*xs: Array, **keywords: Any) -> Made:
        wide = [x if x.dtype.kind in "biu" else x.astype(WIDE[x.dtype.name]) for x in xs]
        y, pulled = pullbacks(op, *wide, **keywords)
        dtype = next(x.dtype for x in xs if x.dtype.kind not in "biu")

        def pull(g: Array) -> list[Array]:
            gradients = pulled(g.astype(WIDE[dtype.name]))
            return [
                d if d is None else summed(d, x).astype(x.dtype) for d, x in zip(gradients, xs, strict=False)
            ]

        return np.asarray(y).astype(dtype), pull

    return planted.of_rule(op, rule, dtypes)


for op in sorted(VIEWS):
    add(op, LAYOUT, f"{op} gives a view of its array", partial(value_of_views, op))

for layout, ops in LAID_OUT.items():
    for op in ops:
        add(op, LAYOUT, f"{op} gives {layout} arrays", partial(laid_out, op, layout))

for op in OPS:
    if OPS[op].differentiable and op not in MOVING:
        add(op, WIDER, f"{op} is computed in the next wider dtype", partial(wider, op))

for op in SIXTEEN:
    for dtype in ("float16", "bfloat16"):
        add(op, WIDER, f"{op} of {dtype} is computed in float32", partial(wider, op, (dtype,)))
