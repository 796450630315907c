"""Indexing of tensors by NumPy's rules.

Torch's own x[key] takes no negative steps and in some cases orders the axes of the value differently.
"""

from typing import Any

import numpy as np
import torch

KeyParts = list[Any]
"""The parts of a key: integers, slices, None, Ellipsis, integer arrays and boolean masks."""


def getitem(x: torch.Tensor, *, key: Any) -> torch.Tensor:
    """Return x[key] as NumPy defines it, through torch's own indexing. Arrays in the key are NumPy's."""
    parts, flipped_axes = _flip_negative_steps(list(key) if isinstance(key, tuple) else [key], tuple(x.shape))
    parts = _integers_as_arrays(parts)
    parts, extra_axis = _replace_empty_ellipsis(parts, x.ndim)
    y = (x.flip(flipped_axes) if flipped_axes else x)[tuple(_to_device(x.device, k) for k in parts)]
    return y if extra_axis is None else y.squeeze(extra_axis)


def _flip_negative_steps(parts: KeyParts, shape: tuple[int, ...]) -> tuple[KeyParts, list[int]]:
    """Return the key with positive steps only, and the axes along which the tensor must be flipped for it."""
    ellipsis_axes = len(shape) - sum(map(_count_axes, parts))
    parts, axis, flipped_axes = list(parts), 0, []
    for i, k in enumerate(parts):
        if isinstance(k, slice) and (k.step or 1) < 0:
            indices = range(*k.indices(shape[axis]))
            first = shape[axis] - 1 - indices.start if indices else 0
            parts[i] = slice(first, first + len(indices) * -indices.step, -indices.step)
            flipped_axes.append(axis)
        axis += ellipsis_axes if k is Ellipsis else _count_axes(k)
    return parts, flipped_axes


def _integers_as_arrays(parts: KeyParts) -> KeyParts:
    """Return the key with its integers as arrays if it has other arrays.

    So NumPy reads such a key; torch would apply the integers first.
    """
    if not any(map(_is_array, parts)):
        return parts
    return [np.full(1, k, np.int64) if _is_integer(k) else k for k in parts]


def _replace_empty_ellipsis(parts: KeyParts, ndim: int) -> tuple[KeyParts, int | None]:
    """Return the key with None for an Ellipsis of no axes between arrays, and the axis it adds to the value.

    If anything separates the arrays of a key, their axes come first in the value. In NumPy an Ellipsis of no
    axes separates them, in torch it does not.
    """
    position = next((i for i, k in enumerate(parts) if k is Ellipsis), None)
    if position is None or sum(map(_count_axes, parts)) < ndim:
        return parts, None
    before, after = parts[:position], parts[position + 1 :]
    if not any(map(_is_array, before)) or not any(map(_is_array, after)):
        return before + after, None
    leading_axes = max(1 if _is_mask(k) else k.ndim for k in parts if _is_array(k))
    extra_axis = leading_axes + sum(k is None or isinstance(k, slice) for k in before)
    return [*before, None, *after], extra_axis


def _count_axes(k: Any) -> int:
    """Return how many axes of the tensor a part of a key consumes; 0 for Ellipsis."""
    return 0 if k is None or k is Ellipsis else np.ndim(k) if _is_mask(k) else 1


def _is_array(k: Any) -> bool:
    return isinstance(k, np.ndarray) and k.ndim > 0


def _is_mask(k: Any) -> bool:
    return isinstance(k, bool | np.bool_) or (isinstance(k, np.ndarray) and k.dtype == np.bool_)


def _is_integer(k: Any) -> bool:
    return not _is_mask(k) and (
        isinstance(k, int | np.integer)
        or (isinstance(k, np.ndarray) and k.ndim == 0 and k.dtype.kind in "iu")
    )


def _to_device(device: torch.device, k: Any) -> Any:
    # `torch.tensor` copies.
    return torch.tensor(k, device=device) if isinstance(k, np.ndarray | np.generic) else k
