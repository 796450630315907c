"""General faults of axes: keepdims forgotten, negative axes or tuples mishandled, an axis off by one."""

from typing import Any

import numpy as np

from gradspec.reference import Op
from gradspec.reference.axes import normalize_axes
from tests.faults.fault import (
    SHAPES_PROPERTY,
    Array,
    CallContext,
    GradientContext,
    apply_spec_rule,
    unbroadcast_like,
)
from tests.faults.general import gradient_fault, value_fault
from tests.faults.observed import takes_axis_tuples

KIND_AXES = "axes"


def has_axes(op: Op) -> bool:
    return bool({"axis", "axes"} & set(op.keywords))


def is_reduction(op: Op) -> bool:
    return "keepdims" in op.keywords


def get_axes(c: CallContext) -> Any:
    return c.keywords["axis" if "axis" in c.keywords else "axes"]


def get_rank_for_axes(c: CallContext) -> int:
    """Return the rank of the array whose axes are meant: the value if the op adds axes, else the argument."""
    return int(max(c.y.ndim, c.x.ndim))


def compute_along(c: CallContext, axes: Any) -> tuple[Array, Any]:
    """Return the value and the pullback along other axes."""
    keywords = {**c.keywords, "axis" if "axis" in c.keywords else "axes": axes}
    return apply_spec_rule(c.op.address, *c.xs, **keywords)


def pull_along(c: GradientContext, axes: Any) -> Array:
    """Return the gradient along other axes; raise where the cotangent does not fit."""
    _, pull_all = compute_along(c, axes)
    return unbroadcast_like(pull_all(c.g)[c.i], c.x)


def drop_signs(axes: Any, ndim: int) -> Any:
    """Return the axes with -1 taken for 1 and -2 for 2."""
    if isinstance(axes, tuple):
        return tuple(abs(a) % ndim if ndim else a for a in axes)
    return abs(axes) % ndim if isinstance(axes, int) and ndim else axes


def shift_axes(axes: Any, ndim: int) -> Any:
    """Return the axes, each replaced by the next one."""
    if isinstance(axes, tuple):
        return tuple((a + 1) % ndim if ndim else a for a in axes)
    return (axes + 1) % ndim if isinstance(axes, int) and ndim else axes


def keep_first_axis(axes: Any) -> Any:
    return axes[0] if isinstance(axes, tuple) and len(axes) > 1 else axes


@gradient_fault(KIND_AXES, applies_to=has_axes)
def takes_the_axis_beside(c: GradientContext) -> Array:
    return pull_along(c, shift_axes(get_axes(c), get_rank_for_axes(c)))


@gradient_fault(KIND_AXES, applies_to=has_axes)
def mishandles_negative_axes(c: GradientContext) -> Array:
    return pull_along(c, drop_signs(get_axes(c), get_rank_for_axes(c)))


@value_fault(KIND_AXES, applies_to=has_axes)
def value_takes_the_axis_beside(c: CallContext) -> Array:
    return compute_along(c, shift_axes(get_axes(c), get_rank_for_axes(c)))[0]


@value_fault(KIND_AXES, applies_to=has_axes)
def value_mishandles_negative_axes(c: CallContext) -> Array:
    return compute_along(c, drop_signs(get_axes(c), get_rank_for_axes(c)))[0]


@value_fault(KIND_AXES, applies_to=takes_axis_tuples, likely=SHAPES_PROPERTY)
def value_takes_only_the_first_of_several_axes(c: CallContext) -> Array:
    return compute_along(c, keep_first_axis(get_axes(c)))[0]


@value_fault(KIND_AXES, applies_to=is_reduction, likely=SHAPES_PROPERTY)
def value_forgets_keepdims(c: CallContext) -> Array:
    axes = normalize_axes(get_axes(c), c.x.ndim)
    return c.y.reshape(tuple(n for i, n in enumerate(c.x.shape) if i not in axes))


@value_fault(KIND_AXES, applies_to=is_reduction, likely=SHAPES_PROPERTY)
def value_always_keeps_dims(c: CallContext) -> Array:
    axes = normalize_axes(get_axes(c), c.x.ndim)
    return c.y.reshape(tuple(1 if i in axes else n for i, n in enumerate(c.x.shape)))


@gradient_fault(KIND_AXES, applies_to=is_reduction)
def is_broadcast_without_the_reduced_axes(c: GradientContext) -> Array:
    return c.pull(np.ones_like(c.g)) * np.broadcast_to(c.g, c.x.shape)
