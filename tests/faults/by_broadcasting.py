"""General faults of broadcasting: the cotangent not summed, or summed wrongly, over the axes that an argument lacks."""

import numpy as np

from gradspec.reference import Op
from tests.faults.fault import SHAPES_PROPERTY, Array, GradientContext
from tests.faults.general import gradient_fault, vjp_fault

KIND_BROADCASTING = "broadcasting"


def may_broadcast(op: Op) -> bool:
    """Whether an argument may be smaller than the value."""
    return len(op.core_ranks) > 1 or op.name in {"broadcast_to", "layer_norm", "linear"}


def may_stretch(op: Op) -> bool:
    """Whether an argument may have length 1 where the value is longer."""
    return len(op.core_ranks) > 1 or op.name == "broadcast_to"


def find_broadcast_axes(p: GradientContext) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of the whole gradient that its array lacks, and those on which it has length 1."""
    lead = p.unsummed_gradient.ndim - p.x.ndim
    ones = tuple(i for i, n in enumerate(p.x.shape, lead) if n == 1 != p.unsummed_gradient.shape[i])
    return tuple(range(lead)), ones


def take_first_along(d: Array, axes: tuple[int, ...]) -> Array:
    return d[tuple(slice(0, 1) if i in axes else slice(None) for i in range(d.ndim))]


@gradient_fault(KIND_BROADCASTING, applies_to=may_broadcast)
def is_averaged_over_broadcast_axes(p: GradientContext) -> Array:
    return p.scale(p.x.size / p.unsummed_gradient.size) if p.unsummed_gradient.size else p.gradient


@gradient_fault(KIND_BROADCASTING, applies_to=may_broadcast)
def is_that_of_the_first_member(p: GradientContext) -> Array:
    lead, ones = find_broadcast_axes(p)
    return (
        take_first_along(p.unsummed_gradient, lead + ones).reshape(p.x.shape)
        if p.unsummed_gradient.size
        else p.gradient
    )


@gradient_fault(KIND_BROADCASTING, applies_to=may_stretch)
def is_summed_over_leading_axes_only(p: GradientContext) -> Array:
    _, ones = find_broadcast_axes(p)
    return take_first_along(p.unsummed_gradient, ones) if p.unsummed_gradient.size else p.unsummed_gradient


@gradient_fault(KIND_BROADCASTING, applies_to=may_broadcast)
def is_summed_over_axes_of_length_one_only(p: GradientContext) -> Array:
    lead, _ = find_broadcast_axes(p)
    return take_first_along(p.unsummed_gradient, lead) if p.unsummed_gradient.size else p.unsummed_gradient


@gradient_fault(KIND_BROADCASTING, applies_to=may_stretch)
def is_summed_over_the_axis_beside(p: GradientContext) -> Array:
    lead, ones = find_broadcast_axes(p)
    if lead or len(ones) != 1 or p.unsummed_gradient.ndim < 2:
        return p.unsummed_gradient
    return np.sum(p.unsummed_gradient, axis=ones[0] - 1, keepdims=True).reshape(p.x.shape)


@gradient_fault(KIND_BROADCASTING, applies_to=may_broadcast)
def takes_the_largest_over_broadcast_axes(p: GradientContext) -> Array:
    lead, ones = find_broadcast_axes(p)
    return (
        np.max(p.unsummed_gradient, axis=lead + ones, keepdims=True).reshape(p.x.shape)
        if p.unsummed_gradient.size
        else p.gradient
    )


@vjp_fault(KIND_BROADCASTING, applies_to=may_broadcast, likely=SHAPES_PROPERTY)
def gradients_are_not_summed(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [g.copy() if d.shape != g.shape else d for d in pull(g)]
