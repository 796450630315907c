"""rms_norm by PyTorch, right and with the faults that hand-written ones have had; and its formula."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gradspec import Array, Real, op


@op("(*b,n),(n)->(*b,n)", eps=[1e-6, 1e-2])
def rms_norm(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rms_norm_formula(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def widen(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype.itemsize == 2 else x


def add_up(x: torch.Tensor) -> torch.Tensor:
    """Add up along the last axis in the dtype of x, one number after the other."""
    if x.dtype.itemsize > 2:
        return x.sum(-1, keepdim=True)
    total = torch.zeros_like(x[..., 0])
    for column in x.unbind(-1):
        total = total + column
    return total[..., None]


def make_norm(
    axis: int = -1,
    eps_of_backward: Callable[[float], float] = lambda eps: eps,
    rows_of_weight: int | None = None,
    widen: Callable[[torch.Tensor], torch.Tensor] = widen,
    read_cotangent: Callable[[torch.Tensor], torch.Tensor] = lambda g: g,
) -> Any:
    """Return the `apply` of an autograd.Function; the arguments plant faults."""

    class RMSNorm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, eps):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(x, weight)
            ctx.eps = eps
            wide = widen(x)
            squares = wide * wide
            mean = squares.mean(0, keepdim=True) if axis == 0 else add_up(squares) / x.shape[-1]
            rstd = torch.rsqrt(mean + eps)
            return (wide * rstd * widen(weight)).to(x.dtype)

        @staticmethod
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            x, weight = ctx.saved_tensors
            wide, g = widen(x), widen(read_cotangent(g))
            rstd = torch.rsqrt((wide * wide).mean(-1, keepdim=True) + eps_of_backward(ctx.eps))
            xhat, gx = wide * rstd, g * widen(weight)
            dx = rstd * (gx - xhat * (gx * xhat).mean(-1, keepdim=True))
            dweight = (g * xhat).reshape(-1, x.shape[-1])[:rows_of_weight].sum(0)
            return dx.to(x.dtype), dweight.to(weight.dtype), None

    def rms_norm_of_torch(x: torch.Tensor, weight: torch.Tensor, *, eps: float = 1e-6) -> Any:
        return RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]

    return rms_norm_of_torch


def accumulate_in_16_bits(x: torch.Tensor) -> torch.Tensor:
    return x


def read_as_contiguous(g: torch.Tensor) -> torch.Tensor:
    """Read the elements one after the other from where the first lies, as a kernel without strides does."""
    if g.is_contiguous():
        return g
    flat = torch.as_strided(g, (g.untyped_storage().size() // g.element_size() - g.storage_offset(),), (1,))
    return torch.nn.functional.pad(flat, (0, g.numel()))[: g.numel()].reshape(g.shape)


right = make_norm()
mean_over_first_axis = make_norm(axis=0)

FAULTS = {
    "the mean is over the first axis": mean_over_first_axis,
    "eps is forgotten in backward": make_norm(eps_of_backward=lambda _: 0.0),
    "dweight is the sum of the first 1,024 rows": make_norm(rows_of_weight=1024),
    "16 bits are added up in 16 bits": make_norm(widen=accumulate_in_16_bits),
    "the cotangent is read as contiguous": make_norm(read_cotangent=read_as_contiguous),
}
