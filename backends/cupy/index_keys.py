"""NumPy's keys for CuPy, in two steps that both read alike: slices and integers, then adjacent arrays."""

from typing import Any, NamedTuple

import cupy
import numpy as np

from gradspec.reference.rule import Array

Shape = tuple[int, ...]


class SplitKey(NamedTuple):
    """A key in two steps.

    basic: the first step: slices, integers and None.
    axes: the axes that arrays index in the result of the first step.
    arrays: the index arrays, without negative indices.
    arrays_first: whether their axes come first in the result, as in NumPy where something stands between
    them.
    """

    basic: tuple[Any, ...]
    axes: Shape
    arrays: tuple[Array, ...]
    arrays_first: bool


def split_key(key: Any, shape: Shape) -> SplitKey:
    """Return the two steps of a key for an array of this shape.

    Args:
        key: Integers, slices, None, Ellipsis, integer arrays and boolean masks. CuPy arrays are taken as they
            are: checking for indices out of range would mean to wait for the device.
        shape: The shape of the array to index.

    Raises:
        IndexError: NumPy raises it for this key, as for an index out of range.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    if any(isinstance(k, cupy.ndarray) for k in parts):
        return SplitKey(tuple(parts), (), (), False)
    stand_in = np.broadcast_to(np.int8(0), shape)
    stand_in[key]  # raises what NumPy raises
    has_arrays = any(_is_array(k) for k in parts)
    basic, arrays = _split_parts(parts, len(shape), has_arrays)
    axes = tuple(i for i, array in enumerate(arrays) if array is not None)
    basic_shape = stand_in[tuple(basic)].shape
    indices = (np.where(a < 0, a + n, a) for a, n in zip(arrays, basic_shape, strict=False) if a is not None)
    advanced = [i for i, k in enumerate(parts) if _is_advanced(k)]
    arrays_first = bool(advanced) and advanced[-1] - advanced[0] >= len(advanced)
    return SplitKey(tuple(basic), axes, tuple(map(cupy.asarray, indices)), arrays_first)


def _split_parts(parts: list[Any], ndim: int, has_arrays: bool) -> tuple[list[Any], list[Array | None]]:
    """Return the basic part of a key, and for each axis of its result the array that indexes it, if one does.

    Where the key has arrays, its integers count among them.
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
        elif not has_arrays:
            basic.append(int(k))
        else:
            index_arrays = _as_integer_arrays(k)
            basic += [None if _is_mask(k) and not np.ndim(k) else slice(None)] * len(index_arrays)
            arrays += index_arrays
    return basic, arrays


def _as_integer_arrays(k: Any) -> list[Array]:
    """Return an integer, a mask or an integer array as integer arrays, one for each axis that it indexes.

    A mask with no dimensions indexes a new axis of length 1: at 0 if it is true, nowhere if not.
    """
    if _is_mask(k):
        return list(np.nonzero(k)) if np.ndim(k) else [np.zeros(int(bool(k)), np.int64)]
    return [np.atleast_1d(np.asarray(k, np.int64))]


def _is_mask(k: Any) -> bool:
    return isinstance(k, bool | np.bool_) or (isinstance(k, np.ndarray) and k.dtype == np.bool_)


def _is_array(k: Any) -> bool:
    """Return whether a part makes axes of its own: a mask, or an integer array with any dimensions."""
    return _is_mask(k) or (isinstance(k, np.ndarray) and k.ndim > 0)


def _is_advanced(k: Any) -> bool:
    return not (k is None or k is Ellipsis or isinstance(k, slice))


def _count_axes(k: Any) -> int:
    """Return how many axes of the array a part of a key indexes; 0 for Ellipsis."""
    return 0 if k is None or k is Ellipsis else np.ndim(k) if _is_mask(k) else 1


def apply_basic_part(x: Array, key: SplitKey) -> tuple[Array, tuple[Any, ...]]:
    """Return a view of x, and a key of adjacent arrays that is left to apply to the view.

    The view at that key is x[key]; what is written to the view is written to x.
    """
    view = x[key.basic]
    if key.arrays_first and key.arrays:
        return cupy.moveaxis(view, key.axes, tuple(range(len(key.axes)))), key.arrays
    return view, (slice(None),) * (key.axes[0] if key.axes else 0) + key.arrays
