"""Torch's functions under the names and keywords of the ops that formulas are composed of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone gives it)


def einsum(xs: Sequence[torch.Tensor], *, subscripts: str) -> Any:
    return torch.einsum(subscripts, *xs)


def index_add(x: torch.Tensor, index: torch.Tensor, source: torch.Tensor, *, axis: int = 0) -> Any:
    return torch.index_add(x, axis, index, source)


def pad(x: torch.Tensor, *, pad_width: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    return F.pad(x, [n for pair in reversed(pad_width) for n in pair], value=value)


def sort(x: torch.Tensor, *, axis: int = -1, descending: bool = False) -> Any:
    return torch.sort(x, stable=True, dim=axis, descending=descending)


def take_along_axis(x: torch.Tensor, indices: torch.Tensor, *, axis: int = -1) -> Any:
    return torch.take_along_dim(x, indices, axis)


def unstack(x: torch.Tensor, *, axis: int = 0) -> Any:
    return torch.unbind(x, axis)


OPS_FOR_FORMULAS: Mapping[str, Callable[..., Any]] = {
    "einsum": einsum,
    "index_add": index_add,
    "pad": pad,
    "sort": sort,
    "stop_gradient": torch.Tensor.detach,
    "take_along_axis": take_along_axis,
    "unstack": unstack,
}
