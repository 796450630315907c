"""Axes: from what people write (None, negative, tuples) to what loops need."""

import operator
from collections.abc import Iterable

Axes = int | tuple[int, ...] | None


def normalize_axes(axis: int | Iterable[int] | None, ndim: int) -> tuple[int, ...]:
    """Return the axes as a tuple in 0..ndim-1, in the same order; None means all axes.

    Raises:
        IndexError: for an axis out of range.
        ValueError: for an axis named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    signed_axes = tuple(operator.index(a) for a in (axis if isinstance(axis, Iterable) else (axis,)))
    for a in signed_axes:
        if not ndim:
            raise IndexError(f"axis {a} is out of range: an array of 0 dimensions has no axes")
        if not -ndim <= a < ndim:
            raise IndexError(
                f"axis {a} is out of range for an array of {ndim} dimensions; "
                f"it must be from {-ndim} to {ndim - 1}"
            )
    axes = tuple(a % ndim for a in signed_axes)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis {signed_axes} names an axis twice")
    return axes
