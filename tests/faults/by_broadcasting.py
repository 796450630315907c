"""General faults of broadcasting: the gradient not summed over broadcast axes, or summed wrongly."""

import numpy as np

from tests.faults.fault import SHAPES_PROPERTY, Array, GradientContext
from tests.faults.general import gradient_fault, vjp_fault
from tests.faults.observed import may_broadcast, may_stretch

KIND_BROADCASTING = "broadcasting"


def find_broadcast_axes(c: GradientContext) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes of the unsummed gradient that its array lacks, and those where it has length 1."""
    lead = c.unsummed_gradient.ndim - c.x.ndim
    ones = tuple(i for i, n in enumerate(c.x.shape, lead) if n == 1 != c.unsummed_gradient.shape[i])
    return tuple(range(lead)), ones


def take_first_along(d: Array, axes: tuple[int, ...]) -> Array:
    """Return the first member along each of the axes, which keep length 1."""
    return d[tuple(slice(0, 1) if i in axes else slice(None) for i in range(d.ndim))]


@gradient_fault(KIND_BROADCASTING, applies_to=may_broadcast)
def is_averaged_over_broadcast_axes(c: GradientContext) -> Array:
    return c.scale(c.x.size / c.unsummed_gradient.size) if c.unsummed_gradient.size else c.gradient


@gradient_fault(KIND_BROADCASTING, applies_to=may_broadcast)
def is_that_of_the_first_member(c: GradientContext) -> Array:
    lead, ones = find_broadcast_axes(c)
    if not c.unsummed_gradient.size:
        return c.gradient
    return take_first_along(c.unsummed_gradient, lead + ones).reshape(c.x.shape)


@gradient_fault(KIND_BROADCASTING, applies_to=may_stretch)
def is_summed_over_leading_axes_only(c: GradientContext) -> Array:
    _, ones = find_broadcast_axes(c)
    return take_first_along(c.unsummed_gradient, ones) if c.unsummed_gradient.size else c.unsummed_gradient


@gradient_fault(KIND_BROADCASTING, applies_to=may_broadcast)
def is_summed_over_axes_of_length_one_only(c: GradientContext) -> Array:
    lead, _ = find_broadcast_axes(c)
    return take_first_along(c.unsummed_gradient, lead) if c.unsummed_gradient.size else c.unsummed_gradient


@gradient_fault(KIND_BROADCASTING, applies_to=may_stretch)
def is_summed_over_the_axis_beside(c: GradientContext) -> Array:
    lead, ones = find_broadcast_axes(c)
    if lead or len(ones) != 1 or c.unsummed_gradient.ndim < 2:
        return c.unsummed_gradient
    return np.sum(c.unsummed_gradient, axis=ones[0] - 1, keepdims=True).reshape(c.x.shape)


@gradient_fault(KIND_BROADCASTING, applies_to=may_broadcast)
def takes_the_largest_over_broadcast_axes(c: GradientContext) -> Array:
    lead, ones = find_broadcast_axes(c)
    if not c.unsummed_gradient.size:
        return c.gradient
    return np.max(c.unsummed_gradient, axis=lead + ones, keepdims=True).reshape(c.x.shape)


@vjp_fault(KIND_BROADCASTING, applies_to=may_broadcast, likely=SHAPES_PROPERTY)
def gradients_are_not_summed(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [g.copy() if d.shape != g.shape else d for d in pull(g)]
