"""What the tape does with arrays: fitting cotangents to shapes, and copies that nobody else writes to."""

import sys
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

Array = Any


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum g over the axes along which an argument of this shape was broadcast; the result has this shape.

    This is the one place where broadcasting is undone.

    Raises:
        ValueError: if `shape` does not broadcast to the shape of g.
    """
    lead = g.ndim - len(shape)
    stretched = tuple(i for i, n in enumerate(shape, lead) if n == 1 != g.shape[i]) if lead >= 0 else ()
    if lead < 0 or any(n != g.shape[i] and n != 1 for i, n in enumerate(shape, lead)):
        raise ValueError(
            f"a pullback returned a gradient of shape {g.shape} for an argument of shape {shape}"
        )
    # Of a plain array both give the same sum; np.add.reduce has half the overhead.
    sum_over = np.add.reduce if type(g) is np.ndarray else np.sum
    g = sum_over(g, axis=(*range(lead), *stretched), keepdims=True)
    return g.reshape(shape)


def as_cotangent(g: Any, y: Array) -> Array:
    """Return the cotangent g in the dtype of the value y that it belongs to.

    Args:
        g: an array or a number; None stands for 1 if y has one element.
        y: the value.

    Raises:
        ValueError: if the shape of g is not that of y.
    """
    if g is None:
        if y.size != 1:
            raise ValueError(
                f"backward() needs a cotangent for a value of shape {y.shape}; "
                "it defaults to 1 only for a value of one element; ones=True asks for ones"
            )
        g = np.ones_like(y)
    if not hasattr(g, "dtype"):
        g = np.asarray(g, y.dtype, like=y)
    if g.shape != y.shape:
        raise ValueError(
            f"the cotangent has shape {g.shape}, the value it belongs to {y.shape}; they must be the same"
        )
    return g if g.dtype == y.dtype else g.astype(y.dtype)


# One that the cache has dropped is made again; the tape then takes the two for different and fits the
# gradient, which changes nothing.
@lru_cache(maxsize=1024)
def intern_shape_dtype(shape: tuple[int, ...], dtype: Any) -> object:
    """Return a shape and dtype as one object, to be compared by identity."""
    return shape, dtype


def as_array(x: Any) -> Array:
    """Return x as an array: where a result has no dimensions, NumPy's functions return scalars."""
    return np.asarray(x) if isinstance(x, np.generic) else x


def copy_writable(x: Array) -> Array:
    """Return a writable copy of x in memory of its own."""
    return np.array(x) if isinstance(x, np.generic) else x.copy()


def copy_with_layout(x: Array) -> Array:
    """Return a copy of x with its strides, so that a rule meets the same layout; x may then be written to."""
    if type(x) is not np.ndarray or x.dtype.hasobject or not x.size:
        return copy_writable(x)
    low, high = byte_bounds(x)
    first = x.__array_interface__["data"][0]
    copy = np.ndarray(x.shape, x.dtype, np.empty(high - low, np.uint8), first - low, x.strides)
    copy[...] = x
    copy.flags.writeable = x.flags.writeable
    return copy


def is_changed(copy: Array, x: Array) -> bool:
    """Return whether the copy and x differ, apart from NaN."""
    return bool(((copy != x) & (x == x)).any())


def is_sole_reference(holder: list[Any], i: int) -> bool:
    """Return whether only this list refers to the array at index i, or to its memory: then it needs no copy.

    The memory may belong to another array of the same size, such as `reshape` leaves behind, if nothing else
    refers to that one.
    """
    x = holder[i]
    if isinstance(x, np.generic) or not hasattr(x, "base"):
        return False
    if not getattr(x.flags, "writeable", True):  # not every library has this flag
        return False
    if x.base is not None:
        owner = [x.base]
        if type(owner[0]) is not type(x) or owner[0].nbytes != x.nbytes or not x.flags.c_contiguous:
            return False
        # x refers to the owner, too.
        if not owner[0].flags.owndata or _count_references(owner, 0) != _SOLE_REFCOUNT + 1:
            return False
    elif not x.flags.owndata:
        return False
    del x
    return _count_references(holder, i) == _SOLE_REFCOUNT


def _count_references(holder: list[Any], i: int) -> int:
    return sys.getrefcount(holder[i]) if hasattr(sys, "getrefcount") else 0  # not every Python has it


_SOLE_REFCOUNT = _count_references([object()], 0) or -1
"""The reference count of an object that only a list refers to; it depends on the Python version."""
