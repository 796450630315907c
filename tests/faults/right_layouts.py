"""Right in another way: results laid out otherwise in memory, and computed in higher precision and rounded once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.layouts import LAYOUTS
from gradspec.reference import OPS
from tests.faults import planted_backends
from tests.faults.by_precision import OPS_MOVING_ELEMENTS
from tests.faults.fault import Array, RuleResult, apply_spec_rule, unbroadcast_like
from tests.faults.right import KIND_LAYOUT, KIND_WIDER, register_variant

NEXT_WIDER_DTYPE = {
    "float64": np.longdouble,
    "float32": np.float64,
    "float16": np.float32,
    "bfloat16": np.float32,
}

OPS_GIVING_VIEWS = OPS_MOVING_ELEMENTS - {"concat", "stack"}
"""Ops whose value may be a view of their array."""

OPS_BY_RESULT_LAYOUT: dict[str, Sequence[str]] = {
    "fortran": ("multiply", "matmul", "layer_norm"),
    "strided": ("tanh", "sum", "concat"),
    "reversed": ("where", "softmax", "linear"),
    "read-only": ("divide", "max", "stack"),
    "expanded": ("add", "mean", "broadcast_to"),
}
"""How results lie in memory, and of which ops that is tried."""

OPS_TRIED_IN_16_BITS = (
    "multiply",
    "sigmoid",
    "sum",
    "softmax",
    "layer_norm",
    "matmul",
    "linear",
    "cross_entropy",
)
"""Of which ops 16-bit floats are tried as well."""


def plant_view_as_value(op: str) -> Backend:
    """The value as NumPy gives it, in the memory of the array."""

    def vjp(fn: Callable[..., Any], *inputs: Array) -> Any:
        return fn(*inputs), planted_backends.SPEC_BACKEND.vjp(fn, *inputs)[1]

    return replace(
        planted_backends.SPEC_BACKEND,
        name="right",
        ops={op: planted_backends.SPEC_BACKEND.ops[op]},
        vjp=vjp,
        nests=False,
    )


def plant_result_layout(op: str, layout: str) -> Backend:
    """Value and gradients in this layout."""
    lay = LAYOUTS[layout]

    def change(_: Array, value: Array, pull: Array) -> Any:
        return lay(np.asarray(value)), lambda g: [lay(d) for d in pull(g)]

    return planted_backends.plant_vjp_change(op, change)


def plant_wider_rule(op: str, dtypes: Sequence[str] = ("float64", "float32")) -> Backend:
    """The spec's rule in the next wider dtype, value and gradients rounded once."""

    @wraps(OPS[op].rule)
    def rule(*xs: Array, **keywords: Any) -> RuleResult:
        wide = [x if x.dtype.kind in "biu" else x.astype(NEXT_WIDER_DTYPE[x.dtype.name]) for x in xs]
        y, pulled = apply_spec_rule(op, *wide, **keywords)
        dtype = next(x.dtype for x in xs if x.dtype.kind not in "biu")

        def pull(g: Array) -> list[Array]:
            gradients = pulled(g.astype(NEXT_WIDER_DTYPE[dtype.name]))
            return [
                d if d is None else unbroadcast_like(d, x).astype(x.dtype)
                for d, x in zip(gradients, xs, strict=False)
            ]

        return np.asarray(y).astype(dtype), pull

    return planted_backends.plant_rule(op, rule, dtypes)


for op in sorted(OPS_GIVING_VIEWS):
    register_variant(op, KIND_LAYOUT, f"{op} gives a view of its array", partial(plant_view_as_value, op))

for layout, ops in OPS_BY_RESULT_LAYOUT.items():
    for op in ops:
        register_variant(
            op, KIND_LAYOUT, f"{op} gives {layout} arrays", partial(plant_result_layout, op, layout)
        )

for op in OPS:
    if OPS[op].differentiable and op not in OPS_MOVING_ELEMENTS:
        register_variant(
            op, KIND_WIDER, f"{op} is computed in the next wider dtype", partial(plant_wider_rule, op)
        )

for op in OPS_TRIED_IN_16_BITS:
    for dtype in ("float16", "bfloat16"):
        register_variant(
            op, KIND_WIDER, f"{op} of {dtype} is computed in float32", partial(plant_wider_rule, op, (dtype,))
        )
