"""General faults by place and shape: single elements, rows past some size, ranks, empty arrays, squares."""

import numpy as np

from faults.fault import BATCHES, SHAPES, Array, Call, Pull
from faults.general import gradient, value, vjp
from gradspec.properties.laws.batches import ALONG, LAYERS
from gradspec.reference import Op

PLACE, SHAPE, RANK = "place", "shape", "rank"
BLOCK = 8  # elements that a vectorized loop takes at once
GRID = 1024  # threads of one block


def in_batches(op: Op) -> bool:
    """Whether batches of more than a thousand elements are tried."""
    return bool(op.signature) or op.name in ALONG | LAYERS


def may_be_scalar(op: Op) -> bool:
    """Whether an argument may have no dimensions."""
    return op.name not in {"matmul", "linear", "layer_norm", "softmax", "log_softmax", "cross_entropy", "matrix_transpose",
                           "concat", "squeeze", "argmax", "argmin"}  # fmt: skip


def may_give_a_scalar(op: Op) -> bool:
    return op.name in {"matmul", "argmax", "argmin", "cross_entropy"} or (
        may_be_scalar(op) and op.name not in {"stack", "expand_dims"}
    )


def spoilt_from(x: Array, start: int, axis: int = -1) -> Array:
    """Where along an axis an element lies at `start` or after it."""
    return np.indices(x.shape)[axis] >= start if x.ndim else np.zeros((), bool)


def wrong(y: Array, mask: Array) -> Array:
    """The value with zeros, or something else than was there, where the mask holds."""
    return np.where(mask, ~y if y.dtype.kind in "bi" else y * 0.5 + 1, y).astype(y.dtype)


def last(x: Array) -> Array:
    return (np.arange(x.size) == x.size - 1).reshape(x.shape)


def transposed_where_square(x: Array) -> Array:
    return x.swapaxes(-1, -2).copy() if x.ndim > 1 and x.shape[-1] == x.shape[-2] else x


@gradient(PLACE)
def is_zero_at_the_last_element(p: Pull) -> Array:
    return p.where(last(p.d), 0)


@gradient(PLACE)
def misses_what_is_past_the_eighth_column(p: Pull) -> Array:
    return p.where(spoilt_from(p.d, BLOCK), 0)


@gradient(PLACE)
def misses_what_is_past_the_eighth_row(p: Pull) -> Array:
    return p.where(spoilt_from(p.d, BLOCK, 0), 0)


@gradient(PLACE, when=lambda op: not in_batches(op))
@gradient(PLACE, when=in_batches, likely=BATCHES)
def misses_what_one_block_of_threads_does_not_reach(p: Pull) -> Array:
    return p.where((np.arange(p.d.size) >= GRID).reshape(p.d.shape), 0)


@gradient(PLACE)
def is_reversed(p: Pull) -> Array:
    return np.ascontiguousarray(p.d.ravel()[::-1].reshape(p.d.shape))


@gradient(PLACE, when=lambda op: op.name != "matrix_transpose")
def is_transposed_where_square(p: Pull) -> Array:
    return transposed_where_square(p.d)


@value(PLACE)
def is_wrong_at_the_last_element(c: Call) -> Array:
    return wrong(c.y, last(c.y))


@value(PLACE)
def is_wrong_past_the_eighth_column(c: Call) -> Array:
    return wrong(c.y, spoilt_from(c.y, BLOCK))


@value(PLACE)
def is_transposed_where_square_(c: Call) -> Array:
    return transposed_where_square(c.y)


@value(PLACE, when=in_batches, likely=BATCHES)
def is_wrong_where_one_block_of_threads_does_not_reach(c: Call) -> Array:
    return wrong(c.y, (np.arange(c.y.size) >= GRID).reshape(c.y.shape))


@gradient(RANK, when=may_be_scalar)
def is_halved_for_no_dimensions(p: Pull) -> Array:
    return p.d if p.d.ndim else p.scaled(0.5)


@gradient(RANK)
def is_halved_for_three_dimensions_and_more(p: Pull) -> Array:
    return p.d if p.d.ndim < 3 else p.scaled(0.5)


@gradient(RANK)
def is_halved_for_a_single_element(p: Pull) -> Array:
    return p.d if p.d.size != 1 else p.scaled(0.5)


@gradient(RANK)
def is_halved_for_exactly_four_elements(p: Pull) -> Array:
    return p.d if p.d.size != 4 else p.scaled(0.5)


@gradient(RANK, likely=SHAPES)
def cannot_be_empty(p: Pull) -> Array:
    if not p.d.size:
        raise ZeroDivisionError("a grid of 0 blocks")
    return p.d


@value(RANK)
def is_wrong_for_a_single_element(c: Call) -> Array:
    return wrong(c.y, np.full(c.y.shape, c.y.size == 1))


@value(RANK, likely=SHAPES)
def cannot_be_of_empty_arrays(c: Call) -> Array:
    if any(not x.size for x in c.xs):
        raise ZeroDivisionError("a grid of 0 blocks")
    return c.y


@value(SHAPE, when=may_give_a_scalar, likely=SHAPES)
def of_no_dimensions_has_one(c: Call) -> Array:
    return np.reshape(c.y, c.y.shape or (1,))


@value(SHAPE, likely=SHAPES)
def loses_axes_of_length_one(c: Call) -> Array:
    return np.squeeze(c.y)


@vjp(SHAPE, likely=SHAPES)
def gradients_have_one_more_axis(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [d[None] for d in pull(g)]


@vjp(SHAPE, likely=SHAPES)
def gradients_are_flat(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [d.ravel() for d in pull(g)]


@vjp(SHAPE, likely=SHAPES)
def the_last_gradient_is_missing(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: pull(g)[:-1]
