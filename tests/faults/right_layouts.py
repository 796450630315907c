"""Variants with other layouts of results in memory, and with results of higher precision, rounded once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.layouts import LAYOUTS
from gradspec.properties.cases.observed.movement import moves_elements
from gradspec.reference import OPS
from tests.faults import planted_backends
from tests.faults.fault import Array, RuleResult, apply_spec_rule, unbroadcast_like
from tests.faults.right import KIND_LAYOUT, KIND_WIDER, register_variant

NEXT_WIDER_DTYPE = {
    "float64": np.longdouble,
    "float32": np.float64,
    "float16": np.float32,
    "bfloat16": np.float32,
}

OPS_GIVING_VIEWS = {name for name, op in OPS.items() if moves_elements(op.value_forms[0]) and not op.variadic}
"""Ops whose value may be a view of their array."""

OPS_BY_RESULT_LAYOUT: dict[str, Sequence[str]] = {
    "fortran": ("multiply", "matmul", "layer_norm"),
    "strided": ("tanh", "sum", "concat"),
    "reversed": ("where", "softmax", "linear"),
    "read-only": ("divide", "max", "stack"),
    "expanded": ("add", "mean", "broadcast_to"),
}
"""By the layout of the results, the ops that it is tried with."""

OPS_TRIED_IN_16_BITS = (
    *("multiply", "sigmoid", "sum", "softmax", "layer_norm", "matmul", "linear", "cross_entropy"),
)
"""Ops that are tried in 16-bit floats as well."""


def plant_view_as_value(op: str) -> Backend:
    """Return a backend whose value is a view of its array, as NumPy gives it."""
    spec = planted_backends.SPEC_BACKEND

    def vjp(fn: Callable[..., Any], *inputs: Array) -> Any:
        return fn(*inputs), spec.vjp(fn, *inputs)[1]

    return replace(spec, name="right", ops={op: spec.ops[op]}, vjp=vjp, nests=False)


def plant_result_layout(op: str, layout: str) -> Backend:
    """Return a backend whose value and gradients have this layout."""
    copy_with_layout = LAYOUTS[layout]

    def change(_: Array, value: Array, pull: Array) -> Any:
        return copy_with_layout(np.asarray(value)), lambda g: [copy_with_layout(d) for d in pull(g)]

    return planted_backends.plant_vjp_change(op, change)


def plant_wider_rule(op: str, dtypes: Sequence[str] = ("float64", "float32")) -> Backend:
    """Return the spec with one rule computed in the next wider dtype, whose results are rounded once."""

    @wraps(OPS[op].rule)
    def rule(*xs: Array, **keywords: Any) -> RuleResult:
        wide = [x if x.dtype.kind in "biu" else x.astype(NEXT_WIDER_DTYPE[x.dtype.name]) for x in xs]
        y, pull_wide = apply_spec_rule(op, *wide, **keywords)
        dtype = next(x.dtype for x in xs if x.dtype.kind not in "biu")

        def pull(*gs: Array) -> list[Array]:
            wide_gs = [g if g.dtype.kind in "biu" else g.astype(NEXT_WIDER_DTYPE[dtype.name]) for g in gs]
            gradients = pull_wide(*wide_gs)
            return [
                d if d is None else unbroadcast_like(d, x).astype(x.dtype)
                for d, x in zip(gradients, xs, strict=False)
            ]

        def narrow(v: Array) -> Array:
            return np.asarray(v) if v.dtype.kind in "biu" else np.asarray(v).astype(dtype)

        return tuple(map(narrow, y)) if isinstance(y, tuple) else narrow(y), pull

    return planted_backends.plant_rule(op, rule, dtypes)


for op in sorted(OPS_GIVING_VIEWS):
    register_variant(op, KIND_LAYOUT, f"{op} gives a view of its array", partial(plant_view_as_value, op))

for layout, ops in OPS_BY_RESULT_LAYOUT.items():
    for op in ops:
        plant = partial(plant_result_layout, op, layout)
        register_variant(op, KIND_LAYOUT, f"{op} gives {layout} arrays", plant)

for op in OPS:
    if OPS[op].differentiable and not moves_elements(OPS[op].value_forms[0]):
        plant = partial(plant_wider_rule, op)
        register_variant(op, KIND_WIDER, f"{op} is computed in the next wider dtype", plant)

for op in OPS_TRIED_IN_16_BITS:
    for dtype in ("float16", "bfloat16"):
        plant = partial(plant_wider_rule, op, (dtype,))
        register_variant(op, KIND_WIDER, f"{op} of {dtype} is computed in float32", plant)
