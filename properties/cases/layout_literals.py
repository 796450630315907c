"""NumPy expressions of arrays in a layout, to be pasted where gradspec is not installed."""

import numpy as np

from gradspec.properties.cases.literals import format_as_numpy
from gradspec.reference.rule import Array


def format_laid_out(x: Array, layout: str) -> str | None:
    """Return a NumPy expression of an array equal to x in a layout, if there is a short one.

    "read-only" is no matter of an expression: it is that of "C".

    Args:
        x: The array.
        layout: The name of the layout, one of `LAYOUTS`.
    """
    array = format_as_numpy(x)
    if array is None or layout in ("C", "read-only"):
        return array
    if layout == "expanded":
        return _format_expanded(x, array)
    if layout.startswith("axes "):
        return _format_ordered(array, x.ndim, tuple(map(int, layout.removeprefix("axes "))))
    if layout == "strided":
        return _format_spaced(array, x.ndim)
    forms = {
        "fortran": f"np.asfortranarray({array})",
        "transposed": f"{array}.swapaxes(-1, -2).copy().swapaxes(-1, -2)" if x.ndim > 1 else array,
        "reversed": f"np.flip(np.flip({array}).copy())",
        "offset": f"np.pad({array}.ravel(), (3, 0))[3:].reshape({x.shape})",
        "spaced": _format_spaced(array, min(x.ndim, 1)),
    }
    return forms[layout]


def _format_spaced(array: str, axes: int) -> str:
    """Return every second element, along the first axes, of an array in which each is written twice."""
    if not axes:
        return array
    for axis in range(axes):
        array = f"{array}.repeat(2, {axis})"
    return f"{array}[{', '.join(['::2'] * axes)}]"


def _format_expanded(x: Array, array: str) -> str:
    """Return a broadcast of a part of x, of one element along the axes on which all are equal."""
    index, part = [], x
    for axis in range(x.ndim):
        first = part.take([0], axis) if part.shape[axis] else part
        is_equal = np.array_equal(np.broadcast_to(first, part.shape), part)
        index.append(":1" if is_equal and part.shape[axis] > 1 else ":")
        part = first if is_equal else part
    return f"np.broadcast_to({array}[{', '.join(index)}], {x.shape})" if ":1" in index else array


def _format_ordered(array: str, rank: int, order: tuple[int, ...]) -> str:
    if rank != len(order):
        return array
    back = tuple(map(int, np.argsort(order)))
    return f"{array}.transpose{order}.copy().transpose{back}"
