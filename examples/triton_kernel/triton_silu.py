"""silu in Triton, with a bug: its backward pass takes it that the cotangent lies in memory as x does."""

from typing import Any

import torch
import triton
import triton.language as tl

BLOCK = 1024


@triton.jit
def forward_kernel(x_ptr, y_ptr, size, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < size).to(tl.float32)
    tl.store(y_ptr + i, x / (1 + tl.exp(-x)), mask=i < size)


@triton.jit
def backward_kernel(x_ptr, g_ptr, dx_ptr, size, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < size).to(tl.float32)
    g = tl.load(g_ptr + i, mask=i < size).to(tl.float32)
    s = 1 / (1 + tl.exp(-x))
    tl.store(dx_ptr + i, g * s * (1 + x * (1 - s)), mask=i < size)


class Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        if x.numel():
            forward_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, y, x.numel(), BLOCK)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        (g,), (x,) = gradients, ctx.saved_tensors  # it should be g.contiguous()
        dx = torch.empty_like(x)
        if x.numel():
            backward_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, g, dx, x.numel(), BLOCK)
        return dx
