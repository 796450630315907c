"""General faults of place and shape: single elements, rows past some size, ranks, empty arrays, squares."""

import numpy as np

from gradspec.properties.cases.observed.batches import may_be_batch
from tests.faults.fault import BATCHES_PROPERTY, SHAPES_PROPERTY, Array, CallContext, GradientContext
from tests.faults.general import gradient_fault, value_fault, vjp_fault
from tests.faults.observed import may_give_scalars, may_take_scalars

KIND_PLACE, KIND_SHAPE, KIND_RANK = "place", "shape", "rank"
VECTOR_LANES = 8  # elements that a vectorized loop takes at once
THREADS_PER_BLOCK = 1024


def mask_from(x: Array, start: int, axis: int = -1) -> Array:
    """Return where the index along an axis is `start` or more."""
    return np.indices(x.shape)[axis] >= start if x.ndim else np.zeros((), bool)


def make_wrong_where(y: Array, mask: Array) -> Array:
    """Return the value, wrong where the mask holds: floats are y / 2 + 1, other bits are inverted."""
    return np.where(mask, ~y if y.dtype.kind in "bi" else y * 0.5 + 1, y).astype(y.dtype)


def mask_last(x: Array) -> Array:
    return (np.arange(x.size) == x.size - 1).reshape(x.shape)


def transpose_where_square(x: Array) -> Array:
    return x.swapaxes(-1, -2).copy() if x.ndim > 1 and x.shape[-1] == x.shape[-2] else x


@gradient_fault(KIND_PLACE)
def is_zero_at_the_last_element(c: GradientContext) -> Array:
    return c.scale_where(mask_last(c.gradient), 0)


@gradient_fault(KIND_PLACE)
def misses_what_is_past_the_eighth_column(c: GradientContext) -> Array:
    return c.scale_where(mask_from(c.gradient, VECTOR_LANES), 0)


@gradient_fault(KIND_PLACE)
def misses_what_is_past_the_eighth_row(c: GradientContext) -> Array:
    return c.scale_where(mask_from(c.gradient, VECTOR_LANES, 0), 0)


@gradient_fault(KIND_PLACE, applies_to=lambda op: not may_be_batch(op))
@gradient_fault(KIND_PLACE, applies_to=may_be_batch, likely=BATCHES_PROPERTY)
def misses_what_one_block_of_threads_does_not_reach(c: GradientContext) -> Array:
    return c.scale_where((np.arange(c.gradient.size) >= THREADS_PER_BLOCK).reshape(c.gradient.shape), 0)


@gradient_fault(KIND_PLACE)
def is_reversed(c: GradientContext) -> Array:
    return np.ascontiguousarray(c.gradient.ravel()[::-1].reshape(c.gradient.shape))


@gradient_fault(KIND_PLACE)
def is_transposed_where_square(c: GradientContext) -> Array:
    return transpose_where_square(c.gradient)


@value_fault(KIND_PLACE)
def value_is_wrong_at_the_last_element(c: CallContext) -> Array:
    return make_wrong_where(c.y, mask_last(c.y))


@value_fault(KIND_PLACE)
def value_is_wrong_past_the_eighth_column(c: CallContext) -> Array:
    return make_wrong_where(c.y, mask_from(c.y, VECTOR_LANES))


@value_fault(KIND_PLACE)
def value_is_transposed_where_square(c: CallContext) -> Array:
    return transpose_where_square(c.y)


@value_fault(KIND_PLACE, applies_to=may_be_batch, likely=BATCHES_PROPERTY)
def value_is_wrong_where_one_block_of_threads_does_not_reach(c: CallContext) -> Array:
    return make_wrong_where(c.y, (np.arange(c.y.size) >= THREADS_PER_BLOCK).reshape(c.y.shape))


@gradient_fault(KIND_RANK, applies_to=may_take_scalars)
def is_halved_for_no_dimensions(c: GradientContext) -> Array:
    return c.gradient if c.gradient.ndim else c.scale(0.5)


@gradient_fault(KIND_RANK)
def is_halved_for_three_dimensions_and_more(c: GradientContext) -> Array:
    return c.gradient if c.gradient.ndim < 3 else c.scale(0.5)


@gradient_fault(KIND_RANK)
def is_halved_for_a_single_element(c: GradientContext) -> Array:
    return c.gradient if c.gradient.size != 1 else c.scale(0.5)


@gradient_fault(KIND_RANK)
def is_halved_for_exactly_four_elements(c: GradientContext) -> Array:
    return c.gradient if c.gradient.size != 4 else c.scale(0.5)


@gradient_fault(KIND_RANK, likely=SHAPES_PROPERTY)
def cannot_be_empty(c: GradientContext) -> Array:
    if not c.gradient.size:
        raise ZeroDivisionError("a grid of 0 blocks")
    return c.gradient


@value_fault(KIND_RANK)
def value_is_wrong_for_a_single_element(c: CallContext) -> Array:
    return make_wrong_where(c.y, np.full(c.y.shape, c.y.size == 1))


@value_fault(KIND_RANK, likely=SHAPES_PROPERTY)
def value_cannot_be_of_empty_arrays(c: CallContext) -> Array:
    if any(not x.size for x in c.xs):
        raise ZeroDivisionError("a grid of 0 blocks")
    return c.y


@value_fault(KIND_SHAPE, applies_to=may_give_scalars, likely=SHAPES_PROPERTY)
def value_of_no_dimensions_has_one(c: CallContext) -> Array:
    return np.reshape(c.y, c.y.shape or (1,))


@value_fault(KIND_SHAPE, likely=SHAPES_PROPERTY)
def value_loses_axes_of_length_one(c: CallContext) -> Array:
    return np.squeeze(c.y)


@vjp_fault(KIND_SHAPE, likely=SHAPES_PROPERTY)
def gradients_have_one_more_axis(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [d[None] for d in pull(g)]


@vjp_fault(KIND_SHAPE, likely=SHAPES_PROPERTY)
def gradients_are_flat(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [d.ravel() for d in pull(g)]


@vjp_fault(KIND_SHAPE, likely=SHAPES_PROPERTY)
def the_last_gradient_is_missing(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: pull(g)[:-1]
