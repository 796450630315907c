"""Two layers with backward passes written by hand, as they stand in anyone's package."""

from typing import Any

import torch


class Silu(torch.autograd.Function):
    """x * sigmoid(x)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (g,), (x,) = gradients, ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 + x * (1 - s))


class RMSNorm(torch.autograd.Function):
    """x over the root of its mean square, times a weight; sums are in float32 at least."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        wide = x.float() if x.dtype.itemsize == 2 else x
        rstd = torch.rsqrt((wide * wide).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, rstd)
        return (wide * rstd * weight).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (g,), (x, weight, rstd) = gradients, ctx.saved_tensors
        xhat = x * rstd
        gx = g * weight.to(rstd.dtype)
        dx = rstd * (gx - xhat * (gx * xhat).mean(-1, keepdim=True))
        dweight = (g * xhat).reshape(-1, x.shape[-1]).sum(0)
        return dx.to(x.dtype), dweight.to(weight.dtype), None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, *, eps: float = 1e-6) -> torch.Tensor:
    """Normalize x along its last axis."""
    value: torch.Tensor = RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return value


def geglu(x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """Half of a gated feed-forward layer."""
    return x * torch.nn.functional.silu(gate)
