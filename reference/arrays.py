"""What the tape does with arrays: fits cotangents to their shapes, and sees to it that nobody else writes to its memory."""

import sys
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

Array = Any


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum g over the axes along which an argument of this shape was broadcast; the result has the shape.

    The one place where broadcasting is undone. Raises ValueError where no broadcast leads from the shape to that of g.
    """
    lead = g.ndim - len(shape)
    stretched = tuple(i for i, n in enumerate(shape, lead) if n == 1 != g.shape[i]) if lead >= 0 else ()
    if lead < 0 or any(n != g.shape[i] and n != 1 for i, n in enumerate(shape, lead)):
        raise ValueError(
            f"a pullback returned a gradient of shape {g.shape} for an argument of shape {shape}"
        )
    total = np.add.reduce if type(g) is np.ndarray else np.sum  # the same sum, half the overhead
    g = total(g, axis=(*range(lead), *stretched), keepdims=True)
    return g.reshape(shape)


def as_cotangent(g: Any, y: Array) -> Array:
    """The cotangent g with the shape and dtype of the value y it belongs to; None is 1, for a value of one element.

    Raises ValueError for another shape.
    """
    if g is None:
        if y.size != 1:
            raise ValueError(
                f"backward() needs a cotangent for a value of shape {y.shape}; only one element has a default, 1"
            )
        g = np.ones_like(y)
    if not hasattr(g, "dtype"):
        g = np.asarray(g, y.dtype, like=y)
    if g.shape != y.shape:
        raise ValueError(
            f"the cotangent has shape {g.shape}, the value it belongs to {y.shape}; they must be the same"
        )
    return g if g.dtype == y.dtype else g.astype(y.dtype)


def as_array(x: Any) -> Array:
    """An array of x: of no dimensions NumPy's functions return scalars."""
    return np.asarray(x) if isinstance(x, np.generic) else x


def copy_writable(x: Array) -> Array:
    """The elements of x in memory of their own, where they may be written to."""
    return np.array(x) if isinstance(x, np.generic) else x.copy()


def copy_with_layout(x: Array) -> Array:
    """What x is now, whatever is written to it later: a copy with its strides, so that a rule meets the same layout."""
    if type(x) is not np.ndarray or x.dtype.hasobject or not x.size:
        return copy_writable(x)
    low, high = byte_bounds(x)
    first = x.__array_interface__["data"][0]
    copy = np.ndarray(x.shape, x.dtype, np.empty(high - low, np.uint8), first - low, x.strides)
    copy[...] = x
    copy.flags.writeable = x.flags.writeable
    return copy


def is_changed(copy: Array, x: Array) -> bool:
    """Whether a copy of x is no longer what x is, apart from NaN."""
    return bool(((copy != x) & (x == x)).any())


def is_sole_reference(holder: list[Any], i: int) -> bool:
    """Whether nothing but this list refers to the array at its index i, or to its memory: then it needs no copy.

    The memory may be that of another array of the same size to which nothing else refers, as `reshape` leaves one behind.
    """
    x = holder[i]
    if isinstance(x, np.generic) or not hasattr(x, "base"):
        return False
    if not getattr(x.flags, "writeable", True):  # which not every library knows
        return False
    if x.base is not None:
        owner = [x.base]
        if type(owner[0]) is not type(x) or owner[0].nbytes != x.nbytes or not x.flags.c_contiguous:
            return False
        if (
            not owner[0].flags.owndata or _count_references(owner, 0) != _SOLE_REFCOUNT + 1
        ):  # x refers to it too
            return False
    elif not x.flags.owndata:
        return False
    del x
    return _count_references(holder, i) == _SOLE_REFCOUNT


def _count_references(holder: list[Any], i: int) -> int:
    return sys.getrefcount(holder[i]) if hasattr(sys, "getrefcount") else 0  # not in every Python


_SOLE_REFCOUNT = _count_references([object()], 0) or -1
"""What an object that only a list refers to counts as, which the Python at hand decides."""
