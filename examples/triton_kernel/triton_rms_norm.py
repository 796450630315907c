"""rms_norm in Triton, forward and backward, for float32 and 16-bit floats; sums are in float32."""

from typing import Any

import torch
import triton
import triton.language as tl

TILE_ELEMENTS = 4096
"""How many elements a program takes: of one long row, or of many short ones."""


@triton.jit
def forward_kernel(
    x_ptr, weight_ptr, y_ptr, rstd_ptr, m, n, x_stride, eps, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (row < m) & (column < n)
    x = tl.load(x_ptr + row * x_stride + column, mask=inside, other=0).to(tl.float32)
    weight = tl.load(weight_ptr + column, mask=column < n, other=0).to(tl.float32)
    rstd = 1 / tl.sqrt(tl.sum(x * x, axis=1, keep_dims=True) / n + eps)
    tl.store(rstd_ptr + row, rstd, mask=row < m)
    tl.store(y_ptr + row * n + column, x * rstd * weight, mask=inside)


@triton.jit
def backward_kernel(
    x_ptr, weight_ptr, rstd_ptr, g_ptr, dx_ptr, dweight_ptr, m, n, x_stride, g_stride,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Each program adds up dweight over its own rows."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (row < m) & (column < n)
    x = tl.load(x_ptr + row * x_stride + column, mask=inside, other=0).to(tl.float32)
    g = tl.load(g_ptr + row * g_stride + column, mask=inside, other=0).to(tl.float32)
    weight = tl.load(weight_ptr + column, mask=column < n, other=0).to(tl.float32)
    rstd = tl.load(rstd_ptr + row, mask=row < m, other=0)
    xhat, gx = x * rstd, g * weight
    dx = rstd * (gx - xhat * tl.sum(gx * xhat, axis=1, keep_dims=True) / n)
    tl.store(dx_ptr + row * n + column, dx, mask=inside)
    dweight = tl.sum(g * xhat, axis=0, keep_dims=True)
    tl.store(dweight_ptr + tl.program_id(0) * n + column, dweight, mask=column < n)


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """Return x as a matrix whose rows may lie apart, each in one piece."""
    rows = x.reshape(x.shape[:-1].numel(), x.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def choose_tiles(m: int, n: int) -> tuple[int, int, int]:
    """Return how many programs m rows of n elements take, and of how many rows and columns."""
    columns = triton.next_power_of_2(n)
    rows = min(max(1, TILE_ELEMENTS // columns), triton.next_power_of_2(m))
    return triton.cdiv(m, rows), rows, columns


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        rows, weight = as_rows(x), weight.contiguous()
        m, n = rows.shape
        y, rstd = x.new_empty(x.shape), x.new_empty(m, dtype=torch.float32)
        if x.numel():
            programs, *tile = choose_tiles(m, n)
            forward_kernel[(programs,)](rows, weight, y, rstd, m, n, rows.stride(0), eps, *tile)
        ctx.save_for_backward(x, weight, rstd)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        (g,), (x, weight, rstd) = map(as_rows, gradients), ctx.saved_tensors
        rows, dx = as_rows(x), x.new_empty(x.shape)
        m, n = rows.shape
        if not x.numel():
            return dx, torch.zeros_like(weight), None
        programs, *tile = choose_tiles(m, n)
        dweight = x.new_empty(programs, n, dtype=torch.float32)
        strides = rows.stride(0), g.stride(0)
        backward_kernel[(programs,)](rows, weight, rstd, g, dx, dweight, m, n, *strides, *tile)
        return dx, dweight.sum(0).to(weight.dtype), None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, *, eps: float = 1e-6) -> torch.Tensor:
    """Normalize x along its last axis."""
    value: torch.Tensor = RMSNorm.apply(x, weight, eps)
    return value
