"""A kernel of one's own: silu, which keeps its sigmoid for the backward pass."""

from typing import Any

import torch

from gradspec.backends import load


class Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (g,), (x, s) = gradients, ctx.saved_tensors
        return g * s * (1 + x * (1 - s))


backend = load("torch").with_ops(name="my-kernels", silu=Silu.apply)
