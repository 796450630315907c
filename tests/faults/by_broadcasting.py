"""General faults of broadcasting: the cotangent not summed, or summed wrongly, over the axes that an argument lacks."""

import numpy as np

from faults.fault import SHAPES, Array, Pull
from faults.general import gradient, vjp
from gradspec.reference import Op

BROADCASTING = "broadcasting"


def broadcasts(op: Op) -> bool:
    """Whether an argument may be smaller than the value."""
    return len(op.core_ranks) > 1 or op.name in {"broadcast_to", "layer_norm", "linear"}


def stretches(op: Op) -> bool:
    """Whether an argument may have length 1 where the value is longer."""
    return len(op.core_ranks) > 1 or op.name == "broadcast_to"


def stretched(p: Pull) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of the whole gradient that its array lacks, and those on which it has length 1."""
    lead = p.full.ndim - p.x.ndim
    ones = tuple(i for i, n in enumerate(p.x.shape, lead) if n == 1 != p.full.shape[i])
    return tuple(range(lead)), ones


def first_of(d: Array, axes: tuple[int, ...]) -> Array:
    return d[tuple(slice(0, 1) if i in axes else slice(None) for i in range(d.ndim))]


@gradient(BROADCASTING, when=broadcasts)
def is_averaged_over_broadcast_axes(p: Pull) -> Array:
    return p.scaled(p.x.size / p.full.size) if p.full.size else p.d


@gradient(BROADCASTING, when=broadcasts)
def is_that_of_the_first_member(p: Pull) -> Array:
    lead, ones = stretched(p)
    return first_of(p.full, lead + ones).reshape(p.x.shape) if p.full.size else p.d


@gradient(BROADCASTING, when=stretches)
def is_summed_over_leading_axes_only(p: Pull) -> Array:
    _, ones = stretched(p)
    return first_of(p.full, ones) if p.full.size else p.full


@gradient(BROADCASTING, when=broadcasts)
def is_summed_over_axes_of_length_one_only(p: Pull) -> Array:
    lead, _ = stretched(p)
    return first_of(p.full, lead) if p.full.size else p.full


@gradient(BROADCASTING, when=stretches)
def is_summed_over_the_axis_beside(p: Pull) -> Array:
    lead, ones = stretched(p)
    if lead or len(ones) != 1 or p.full.ndim < 2:
        return p.full
    return np.sum(p.full, axis=ones[0] - 1, keepdims=True).reshape(p.x.shape)


@gradient(BROADCASTING, when=broadcasts)
def takes_the_largest_over_broadcast_axes(p: Pull) -> Array:
    lead, ones = stretched(p)
    return np.max(p.full, axis=lead + ones, keepdims=True).reshape(p.x.shape) if p.full.size else p.d


@vjp(BROADCASTING, when=broadcasts, likely=SHAPES)
def gradients_are_not_summed(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [g.copy() if d.shape != g.shape else d for d in pull(g)]
