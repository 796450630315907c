"""The layer, with a backward pass written by hand."""

from typing import Any

import torch


class Gaussian(torch.autograd.Function):
    """exp(-(x / width)^2)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, width: float) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.width = width
        return torch.exp(-((x / width) ** 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (g,), (x,) = gradients, ctx.saved_tensors
        scaled = x / ctx.width
        return g * torch.exp(-(scaled**2)) * -2 * scaled / ctx.width, None


def gaussian(x: torch.Tensor, *, width: float = 2.0) -> torch.Tensor:
    """Return a bell curve of x."""
    value: torch.Tensor = Gaussian.apply(x, width)  # type: ignore[no-untyped-call]
    return value
