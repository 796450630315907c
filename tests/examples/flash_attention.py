"""FlashAttention by PyTorch: tiles of keys, the log of the sum saved; causal, with grouped heads."""

import math
from collections.abc import Iterator
from typing import Any

import torch

TILE = 2


def widen(*xs: torch.Tensor) -> list[torch.Tensor]:
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in xs]


def spread(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.repeat_interleave(heads // x.shape[1], 1)


def list_tiles(q: torch.Tensor, k: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Give the keys of each tile, and the scores, -inf where a query does not see the key."""
    n = q.shape[-2]
    for start in range(0, n, TILE):
        tile = slice(start, start + TILE)
        seen = torch.ones(n, n, dtype=torch.bool).tril()[:, tile]
        yield tile, (q @ k[..., tile, :].mT / math.sqrt(q.shape[-1])).masked_fill(~seen, -math.inf)


def make_attention(adds_up_groups: bool = True, scales: bool = True) -> Any:
    """Return the `apply` of an autograd.Function; the arguments plant faults in the gradient of the keys."""

    class FlashAttention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, v):  # type: ignore[no-untyped-def]
            wq, wk, wv = widen(q, k, v)
            wk, wv = spread(wk, q.shape[1]), spread(wv, q.shape[1])
            top = torch.full_like(wq[..., :1], -math.inf)
            total, value = torch.zeros_like(top), torch.zeros_like(wq)
            for tile, scores in list_tiles(wq, wk):
                before, top = top, torch.maximum(top, scores.amax(-1, keepdim=True))
                e, shrink = torch.exp(scores - top), torch.exp(before - top)
                total = total * shrink + e.sum(-1, keepdim=True)
                value = value * shrink + e @ wv[..., tile, :]
            value = (value / total).to(q.dtype)
            ctx.save_for_backward(q, k, v, value, top + torch.log(total))
            return value

        @staticmethod
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            q, k, v, value, lse = ctx.saved_tensors
            wq, wk, wv, g, value = widen(q, k, v, g, value)
            wk, wv = spread(wk, q.shape[1]), spread(wv, q.shape[1])
            delta = (g * value).sum(-1, keepdim=True)
            dq, dk, dv = torch.zeros_like(wq), torch.zeros_like(wk), torch.zeros_like(wv)
            for tile, scores in list_tiles(wq, wk):
                p = torch.exp(scores - lse)
                dv[..., tile, :] = p.mT @ g
                dscores = p * (g @ wv[..., tile, :].mT - delta)
                dq += dscores @ wk[..., tile, :] / math.sqrt(q.shape[-1])
                dk[..., tile, :] = dscores.mT @ wq / (math.sqrt(q.shape[-1]) if scales else 1)
            of_groups = (*k.shape[:2], -1, *k.shape[2:])
            dk, dv = dk.reshape(of_groups), dv.reshape(of_groups)
            dk = dk.sum(2) if adds_up_groups else dk[:, :, 0]
            return dq.to(q.dtype), dk.to(k.dtype), dv.sum(2).to(v.dtype)

    return FlashAttention.apply
