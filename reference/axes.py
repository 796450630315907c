"""Axes as people write them (None, negative, tuples) and as loops want them."""

import operator
from collections.abc import Iterable

Axes = int | tuple[int, ...] | None


def normalize_axes(axis: int | Iterable[int] | None, ndim: int) -> tuple[int, ...]:
    """The axes as a tuple in 0..ndim-1, in the order given; None means all of them.

    Raises IndexError for an axis out of range, ValueError for one named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    given = tuple(operator.index(a) for a in (axis if isinstance(axis, Iterable) else (axis,)))
    for a in given:
        if not ndim:
            raise IndexError(f"axis {a} is out of range: an array of 0 dimensions has no axes")
        if not -ndim <= a < ndim:
            raise IndexError(
                f"axis {a} is out of range for an array of {ndim} dimensions; allowed are {-ndim} to {ndim - 1}"
            )
    axes = tuple(a % ndim for a in given)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis {given} names an axis twice")
    return axes
