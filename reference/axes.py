"""Axes: from what people write (None, negative, tuples) to what loops need."""

import operator
from collections.abc import Iterable
from typing import Any

Axes = int | tuple[int, ...] | None


def normalize_axes(axis: int | Iterable[int] | None, ndim: int) -> tuple[int, ...]:
    """Return the axes as a tuple in 0..ndim-1, in the same order; None means all axes.

    As in torch, 0 and -1 may be named where there are no dimensions, and stand for no axis there.

    Raises:
        IndexError: for an axis out of range.
        ValueError: for an axis named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    signed_axes = tuple(operator.index(a) for a in (axis if isinstance(axis, Iterable) else (axis,)))
    for a in signed_axes:
        if not ndim and a not in (0, -1):
            raise IndexError(f"axis {a} is out of range: an array of 0 dimensions has no axes")
        if ndim and not -ndim <= a < ndim:
            raise IndexError(
                f"axis {a} is out of range for an array of {ndim} dimensions; "
                f"it must be from {-ndim} to {ndim - 1}"
            )
    axes = tuple(a % max(ndim, 1) for a in signed_axes)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis {signed_axes} names an axis twice")
    return axes if ndim else ()


def fit_axes(axis: Axes, ndim: int) -> Any:
    """Return the axes for NumPy, which takes 0 and -1 of no dimensions in some functions and not in others.

    Raises:
        IndexError: for an axis out of range, if there are no dimensions; otherwise NumPy says so.
        ValueError: for one named twice, likewise.
    """
    return axis if ndim or axis is None else normalize_axes(axis, ndim)


def dim_to_axis(dim: Any) -> Any:
    """Return the axes that torch calls `dim`: a list counts as a tuple, and an empty one means all axes."""
    return (tuple(dim) or None) if isinstance(dim, tuple | list) else dim


def unpack_integers(args: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the integers from the arguments of f(2, 3) or of f((2, 3))."""
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], tuple | list) else args
