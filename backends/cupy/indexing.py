"""NumPy's keys for CuPy, reduced to what both surely read alike: slices and integers first, then arrays side by side."""

from typing import Any, NamedTuple

import cupy
import numpy as np

from gradspec.reference.rule import Array

Shape = tuple[int, ...]


class SplitKey(NamedTuple):
    """A key in two steps.

    basic: slices, integers and None. at: on the result of that, the axes that arrays index. arrays: those, non-negative.
    in_front: whether their axes of the result come first, as NumPy has it where something stands between them.
    """

    basic: tuple[Any, ...]
    axes: Shape
    arrays: tuple[Array, ...]
    arrays_first: bool


def split_key(key: Any, shape: Shape) -> SplitKey:
    """The steps of a key for an array of this shape; IndexError where NumPy has none, as for an index out of range.

    key: integers, slices, None, Ellipsis, integer arrays and boolean masks. Arrays of CuPy's own are taken as they are:
    to look for indices out of range would be to wait for the device.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    if any(isinstance(k, cupy.ndarray) for k in parts):
        return SplitKey(tuple(parts), (), (), False)
    stand_in = np.broadcast_to(np.int8(0), shape)
    stand_in[key]  # raises what NumPy raises
    apart = any(_is_array(k) for k in parts)
    basic, arrays = _split_parts(parts, len(shape), apart)
    at = tuple(i for i, array in enumerate(arrays) if array is not None)
    found = stand_in[tuple(basic)].shape
    indices = (np.where(a < 0, a + n, a) for a, n in zip(arrays, found, strict=False) if a is not None)
    advanced = [i for i, k in enumerate(parts) if _is_advanced(k)]
    in_front = bool(advanced) and advanced[-1] - advanced[0] >= len(advanced)
    return SplitKey(tuple(basic), at, tuple(map(cupy.asarray, indices)), in_front)


def _split_parts(parts: list[Any], ndim: int, apart: bool) -> tuple[list[Any], list[Array | None]]:
    """The basic part of a key, and for each axis of its result the array that indexes it, if one does.

    apart: whether there are arrays; if so, integers count among them.
    """
    basic: list[Any] = []
    arrays: list[Array | None] = []
    for k in parts:
        if k is Ellipsis:
            count = ndim - sum(map(_count_axes, parts))
            basic += [slice(None)] * count
            arrays += [None] * count
        elif k is None or isinstance(k, slice):
            basic.append(k)
            arrays.append(None)
        elif not apart:
            basic.append(int(k))
        else:
            found = _as_integer_arrays(k)
            basic += [None if _is_mask(k) and not np.ndim(k) else slice(None)] * len(found)
            arrays += found
    return basic, arrays


def _as_integer_arrays(k: Any) -> list[Array]:
    """An integer, a mask or an array of integers as arrays of integers, one for each axis that it indexes.

    A mask of no dimensions indexes a new axis of length 1: at 0 if it is true, nowhere if not.
    """
    if _is_mask(k):
        return list(np.nonzero(k)) if np.ndim(k) else [np.zeros(int(bool(k)), np.int64)]
    return [np.atleast_1d(np.asarray(k, np.int64))]


def _is_mask(k: Any) -> bool:
    return isinstance(k, bool | np.bool_) or (isinstance(k, np.ndarray) and k.dtype == np.bool_)


def _is_array(k: Any) -> bool:
    """Whether it makes axes of its own: a mask, or integers in an array that is not of no dimensions."""
    return _is_mask(k) or (isinstance(k, np.ndarray) and k.ndim > 0)


def _is_advanced(k: Any) -> bool:
    return not (k is None or k is Ellipsis or isinstance(k, slice))


def _count_axes(k: Any) -> int:
    """How many axes of the array a part of a key stands for, but for Ellipsis."""
    return 0 if k is None or k is Ellipsis else np.ndim(k) if _is_mask(k) else 1


def apply_basic_part(x: Array, key: SplitKey) -> tuple[Array, tuple[Any, ...]]:
    """A view of x and a key of arrays side by side: x[key] is the view at that key, and what is written there, in x."""
    view = x[key.basic]
    if key.arrays_first and key.arrays:
        return cupy.moveaxis(view, key.axes, tuple(range(len(key.axes)))), key.arrays
    return view, (slice(None),) * (key.axes[0] if key.axes else 0) + key.arrays
