"""General faults of axes: keepdims forgotten, negative or unordered axes mishandled, an axis that is off by one."""

from typing import Any

import numpy as np

from faults.fault import SHAPES, Array, Call, Pull, pullbacks, summed
from faults.general import gradient, value
from gradspec.reference import Op
from gradspec.reference.axes import normalize_axes

AXES = "axes"


def has_axes(op: Op) -> bool:
    return bool({"axis", "axes"} & set(op.keywords))


def has_many_axes(op: Op) -> bool:
    """Whether a tuple of axes may be given."""
    return has_axes(op) and op.name not in {"softmax", "log_softmax", "concat", "stack", "argmax", "argmin"}


def reduces(op: Op) -> bool:
    return "keepdims" in op.keywords


def axes_of(c: Call) -> Any:
    return c.keywords["axis" if "axis" in c.keywords else "axes"]


def rank(c: Call) -> int:
    """Of the array that the axes are those of."""
    return int(c.y.ndim if c.op.name in {"stack", "expand_dims"} else c.x.ndim)


def computed_along(c: Call, axes: Any) -> tuple[Array, Any]:
    """Value and pullbacks along other axes."""
    return pullbacks(c.op.name, *c.xs, **{**c.keywords, "axis" if "axis" in c.keywords else "axes": axes})


def pulled_along(p: Pull, axes: Any) -> Array:
    """The gradient along other axes; where the cotangent does not fit, an error."""
    _, pulled = computed_along(p, axes)
    return summed(pulled(p.g)[p.i], p.x)


def without_sign(axes: Any, ndim: int) -> Any:
    """-1 taken for 1, -2 for 2."""
    if isinstance(axes, tuple):
        return tuple(abs(a) % ndim if ndim else a for a in axes)
    return abs(axes) % ndim if isinstance(axes, int) and ndim else axes


def next_to(axes: Any, ndim: int) -> Any:
    if isinstance(axes, tuple):
        return tuple((a + 1) % ndim if ndim else a for a in axes)
    return (axes + 1) % ndim if isinstance(axes, int) and ndim else axes


def only_first(axes: Any) -> Any:
    return axes[0] if isinstance(axes, tuple) and len(axes) > 1 else axes


def in_order(axes: Any, ndim: int) -> Any:
    return tuple(sorted(normalize_axes(axes, ndim))) if isinstance(axes, tuple) else axes


@gradient(AXES, when=has_axes)
def takes_the_axis_beside(p: Pull) -> Array:
    return pulled_along(p, next_to(axes_of(p), rank(p)))


@gradient(AXES, when=has_axes)
def mishandles_negative_axes(p: Pull) -> Array:
    return pulled_along(p, without_sign(axes_of(p), rank(p)))


@value(AXES, when=has_axes)
def takes_the_axis_beside_(c: Call) -> Array:
    return computed_along(c, next_to(axes_of(c), rank(c)))[0]


@value(AXES, when=has_axes)
def mishandles_negative_axes_(c: Call) -> Array:
    return computed_along(c, without_sign(axes_of(c), rank(c)))[0]


@value(AXES, when=has_many_axes, likely=SHAPES)
def takes_only_the_first_of_several_axes(c: Call) -> Array:
    return computed_along(c, only_first(axes_of(c)))[0]


@value(AXES, when=reduces, likely=SHAPES)
def forgets_keepdims(c: Call) -> Array:
    return c.y.reshape(
        tuple(n for i, n in enumerate(c.x.shape) if i not in normalize_axes(axes_of(c), c.x.ndim))
    )


@value(AXES, when=reduces, likely=SHAPES)
def always_keeps_dims(c: Call) -> Array:
    return c.y.reshape(
        tuple(1 if i in normalize_axes(axes_of(c), c.x.ndim) else n for i, n in enumerate(c.x.shape))
    )


@gradient(AXES, when=reduces)
def is_broadcast_without_the_reduced_axes(p: Pull) -> Array:
    return p.of(np.ones_like(p.g)) * np.broadcast_to(p.g, p.x.shape)
