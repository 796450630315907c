"""Layouts: the same elements, arranged differently in memory.

Each layout is a function from an array to an equal one. A library's `from_numpy` copies what the library
cannot have (torch has no negative strides) into something that it can.
"""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np

from gradspec.reference.rule import Array


def _fortran(x: Array) -> Array:
    return np.asarray(x, order="F")


def _transposed(x: Array) -> Array:
    """The last two axes exchanged in memory, the others in order."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) if x.ndim > 1 else x.copy()


def _reversed(x: Array) -> Array:
    """Negative strides on all axes."""
    return np.asarray(np.flip(np.array(np.flip(x))))


def _offset(x: Array) -> Array:
    """Neither at the start of its memory nor at a multiple of a vector load."""
    memory = np.ones(x.size + 3, x.dtype)
    memory[3:] = x.ravel()
    return memory[3:].reshape(x.shape)


def _strided(x: Array) -> Array:
    """Every second element of a larger array, along all axes."""
    return _copy_to_every_second(x, x.ndim)


def _spaced(x: Array) -> Array:
    """Rows, or matrices, further apart than they are long; each is contiguous."""
    return _copy_to_every_second(x, 1)


def _copy_to_every_second(x: Array, axes: int) -> Array:
    """Return x as every second element of a larger array along the first `axes` axes."""
    memory = np.ones([2 * n if i < axes else n for i, n in enumerate(x.shape)], x.dtype)
    every_second = memory[(slice(None, None, 2),) * min(axes, x.ndim) + (...,)]
    every_second[...] = x
    return every_second


def _expanded(x: Array) -> Array:
    """Zero strides along all axes on which the elements are equal."""
    for i, n in enumerate(x.shape):
        first = x[(slice(None),) * i + (slice(0, 1),)]
        if n > 1 and np.array_equal(np.broadcast_to(first, x.shape), x):
            x = np.broadcast_to(first, x.shape)
    return x if 0 in x.strides else x.copy()


def _read_only(x: Array) -> Array:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": np.array,
    "fortran": _fortran,
    "transposed": _transposed,
    "reversed": _reversed,
    "offset": _offset,
    "strided": _strided,
    "spaced": _spaced,
    "expanded": _expanded,
    "read-only": _read_only,
}


def _order_axes(x: Array, order: tuple[int, ...]) -> Array:
    """The axes in this order in memory, the first with the largest stride; C order for another rank."""
    if x.ndim != len(order):
        return x.copy()
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


AXIS_ORDERS: dict[int, list[str]] = {rank: [] for rank in (2, 3, 4)}
"""The names of all orders of axes in memory but C order, by rank: "axes 0231" is channels last, NHWC."""

for _rank, _names in AXIS_ORDERS.items():
    for _order in list(itertools.permutations(range(_rank)))[1:]:
        _names.append(f"axes {''.join(map(str, _order))}")
        LAYOUTS[_names[-1]] = partial(_order_axes, order=_order)


MIN_RANK = {"fortran": 2, "transposed": 2, "reversed": 1, "strided": 1, "spaced": 2, "expanded": 1}
"""The rank below which a layout is the same as "C"; 0 for the others."""

LAYOUTS_OF_ANY_RANK = tuple(name for name in LAYOUTS if not name.startswith("axes "))
"""The layouts that are not one order of the axes of arrays of one rank."""


def list_layout_names(rank: int) -> list[str]:
    """Return the names of those `LAYOUTS_OF_ANY_RANK` that make a difference to an array of this rank."""
    return [name for name in LAYOUTS_OF_ANY_RANK if rank >= MIN_RANK.get(name, 0)]


def lay_out(x: Array, layout: str) -> Array:
    """Return an array equal to x in one of the `LAYOUTS`, whatever the layout of x itself."""
    return LAYOUTS[layout](np.asarray(x, order="C"))
