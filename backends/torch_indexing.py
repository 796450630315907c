"""NumPy's keys for torch, which takes x[key] too but knows no steps backwards and places the axes otherwise."""

from typing import Any

import numpy as np
import torch

KeyParts = list[Any]
"""The parts of a key: integers, slices, None, Ellipsis, integer arrays and boolean masks."""


def getitem(x: torch.Tensor, *, key: Any) -> torch.Tensor:
    """x[key] as NumPy has it, through torch's own indexing. Arrays in the key are NumPy's."""
    parts, backwards = _flip_negative_steps(list(key) if isinstance(key, tuple) else [key], tuple(x.shape))
    parts = _integers_as_arrays(parts)
    parts, extra = _replace_empty_ellipsis(parts, x.ndim)
    y = (x.flip(backwards) if backwards else x)[tuple(_to_device(x.device, k) for k in parts)]
    return y if extra is None else y.squeeze(extra)


def _flip_negative_steps(parts: KeyParts, shape: tuple[int, ...]) -> tuple[KeyParts, list[int]]:
    """The key with steps forwards only, for the tensor flipped along the axes returned: torch takes no others."""
    hidden = len(shape) - sum(map(_count_axes, parts))
    parts, axis, backwards = list(parts), 0, []
    for i, k in enumerate(parts):
        if isinstance(k, slice) and (k.step or 1) < 0:
            chosen = range(*k.indices(shape[axis]))
            first = shape[axis] - 1 - chosen.start if chosen else 0
            parts[i] = slice(first, first + len(chosen) * -chosen.step, -chosen.step)
            backwards.append(axis)
        axis += hidden if k is Ellipsis else _count_axes(k)
    return parts, backwards


def _integers_as_arrays(parts: KeyParts) -> KeyParts:
    """The key with integers as arrays where there are other arrays: so NumPy reads them; torch would take them first."""
    if not any(map(_is_array, parts)):
        return parts
    return [np.full(1, k, np.int64) if _is_integer(k) else k for k in parts]


def _replace_empty_ellipsis(parts: KeyParts, ndim: int) -> tuple[KeyParts, int | None]:
    """The key with None for an Ellipsis of no axes between arrays, and which axis of the value that adds.

    Arrays that something else comes between have their axes in front. In NumPy such an Ellipsis does so, in torch not.
    """
    at = next((i for i, k in enumerate(parts) if k is Ellipsis), None)
    if at is None or sum(map(_count_axes, parts)) < ndim:
        return parts, None
    before, after = parts[:at], parts[at + 1 :]
    if not any(map(_is_array, before)) or not any(map(_is_array, after)):
        return before + after, None
    in_front = max(1 if _is_mask(k) else k.ndim for k in parts if _is_array(k))
    extra = in_front + sum(k is None or isinstance(k, slice) for k in before)
    return [*before, None, *after], extra


def _count_axes(k: Any) -> int:
    """How many axes of the tensor a part of a key stands for, but for Ellipsis."""
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
    return torch.tensor(k, device=device) if isinstance(k, np.ndarray | np.generic) else k  # a copy
