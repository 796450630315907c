"""Functions of torch as models have them, and the same as autograd.Functions, with faults to plant."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from gradspec import Mask, below


def widen(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype.itemsize == 2 else x


def make_fused(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return the `apply` of an autograd.Function that computes in float32 and rounds once.

    Args:
        forward: Returns the value, and what is saved.
        backward: Returns the gradients, given the cotangent, the arguments and what was saved.
    """

    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *args):  # type: ignore[no-untyped-def]
            value, *saved = forward(*[widen(x) for x in args])
            ctx.save_for_backward(*args, *saved)
            return value.to(args[0].dtype)

        @staticmethod
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            gradients = backward(widen(g), *[widen(x) for x in ctx.saved_tensors])
            return tuple(None if d is None else d.to(g.dtype) for d in gradients)

    def fused(*args: torch.Tensor) -> Any:
        return Fused.apply(*args)  # type: ignore[no-untyped-call]

    return fused


# A perceptron


def eager_mlp(x, w1, b1, w2, b2):  # type: ignore[no-untyped-def]
    return F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)


MLP_SHAPES = "(b,i),(h,i),(h),(o,h),(o)->(b,o)"


def make_mlp(
    slope_of_tails: float = 1.0,
    add_up: Callable[[torch.Tensor], torch.Tensor] = lambda d: d.sum(0),
    transpose: bool = False,
) -> Any:
    """Return a fused perceptron; the arguments plant faults."""

    def forward(x, w1, b1, w2, b2):  # type: ignore[no-untyped-def]
        before = x @ w1.mT + b1
        after = before * 0.5 * (1 + torch.erf(before / math.sqrt(2)))
        return after @ w2.mT + b2, before, after

    def backward(g, x, w1, b1, w2, b2, before, after):  # type: ignore[no-untyped-def]
        bell = torch.exp(-before * before / 2) / math.sqrt(2 * math.pi)
        d = g @ w2 * (0.5 * (1 + torch.erf(before / math.sqrt(2))) + slope_of_tails * before * bell)
        dw1 = (x.mT @ d).mT
        if transpose and w1.shape[0] == w1.shape[1]:
            dw1 = dw1.mT
        return d @ w1, dw1, add_up(d), g.mT @ after, g.sum(0)

    return make_fused(forward, backward)


MLP_FAULTS = {
    "the slope leaves the bell out": make_mlp(slope_of_tails=0.0),
    "the bias gets a mean": make_mlp(add_up=lambda d: d.mean(0)),
    "a square weight gets its gradient transposed": make_mlp(transpose=True),
}

# Attention


def eager_attention(q, k, v):  # type: ignore[no-untyped-def]
    return F.scaled_dot_product_attention(q, k, v)


ATTENTION_SHAPES = "(*b,s,d),(*b,t,d),(*b,t,e)->(*b,s,e)"


def make_attention(keep_mean: float = 1.0, scale_of_keys: float = 1.0, shift: bool = True) -> Any:
    """Return attention with the formulas of FlashAttention; the arguments plant faults."""

    def forward(q, k, v):  # type: ignore[no-untyped-def]
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        top = scores.amax(-1, keepdim=True) if shift else torch.zeros(())
        powers = torch.exp(scores - top)
        total = powers.sum(-1, keepdim=True)
        value = powers @ v / total
        return value, top + torch.log(total), value

    def backward(g, q, k, v, lse, value):  # type: ignore[no-untyped-def]
        scale = 1 / math.sqrt(q.shape[-1])
        p = torch.exp(q @ k.mT * scale - lse)
        d = p * (g @ v.mT - keep_mean * (g * value).sum(-1, keepdim=True))
        return d @ k * scale, d.mT @ q * scale * scale_of_keys, p.mT @ g

    return make_fused(forward, backward)


ATTENTION_FAULTS = {
    "the mean is left out": make_attention(keep_mean=0.0),
    "the gradient of the keys is scaled twice": make_attention(scale_of_keys=0.5),
    "the largest is not subtracted": make_attention(shift=False),
}

# RMSNorm and a linear layer, which a model computes in float32 by itself


def eager_norm(x: torch.Tensor, weight: torch.Tensor, w: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    wide = x.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return F.linear(weight * wide.to(x.dtype), w)


NORM_SHAPES = "(*b,n),(n),(o,n)->(*b,o)"


def make_norm(keep_mean: float = 1.0, normalize: bool = True, rows: int | None = None) -> Any:
    """Return a fused RMSNorm with a linear layer; the arguments plant faults."""

    def forward(x, weight, w):  # type: ignore[no-untyped-def]
        rstd = 1 / torch.sqrt((x * x).sum(-1, keepdim=True) / x.shape[-1] + 1e-6)
        return (x * rstd * weight) @ w.mT, rstd

    def backward(g, x, weight, w, rstd):  # type: ignore[no-untyped-def]
        xhat, n = x * rstd, x.shape[-1]
        d = g @ w
        mean = (d * weight * xhat).mean(-1, keepdim=True)
        dx = rstd * (d * weight - keep_mean * xhat * mean)
        dweight = (d * (xhat if normalize else x)).reshape(-1, n)[:rows].sum(0)
        return dx, dweight, g.reshape(-1, w.shape[0]).mT @ (xhat * weight).reshape(-1, n)

    return make_fused(forward, backward)


NORM_FAULTS = {
    "the mean is left out": make_norm(keep_mean=0.0),
    "the weight's gradient is that of x": make_norm(normalize=False),
    "dweight is the sum of the first 1,024 rows": make_norm(rows=1024),
}

# Others


def eager_relu(x, w, b):  # type: ignore[no-untyped-def]
    return torch.relu(x @ w + b)


RELU_SHAPES = "(b,i),(i,o),(o)->(b,o)"


def make_relu(slope: float = 0.0) -> Any:
    """Return a fused layer that takes the other side of the kink; the argument plants a fault."""

    def forward(x, w, b):  # type: ignore[no-untyped-def]
        before = x @ w + b
        return torch.clamp(before, min=0), before

    def backward(g, x, w, b, before):  # type: ignore[no-untyped-def]
        d = torch.where(before >= 0, g, slope * g)
        return d @ w.mT, x.mT @ d, d.sum(0)

    return make_fused(forward, backward)


def eager_loss(x: torch.Tensor, w: torch.Tensor, target: below("c")) -> torch.Tensor:  # type: ignore[valid-type]
    return F.cross_entropy(F.linear(x, w), target)


LOSS_SHAPES = "(b,i),(c,i),(b)->()"


def fused_loss(x: torch.Tensor, w: torch.Tensor, target: torch.Tensor) -> Any:
    return FUSED_LOSS(x, w, target)


def _forward_loss(x, w, target):  # type: ignore[no-untyped-def]
    logits = x @ w.mT
    lse = torch.logsumexp(logits, -1, keepdim=True)
    return (lse - logits.gather(1, target[:, None])).mean(), logits, lse


def _backward_loss(g, x, w, target, logits, lse):  # type: ignore[no-untyped-def]
    d = torch.exp(logits - lse)
    d[torch.arange(len(d)), target] -= 1
    d = d * (g / len(d))
    return d @ w, d.mT @ x, None


FUSED_LOSS = make_fused(_forward_loss, _backward_loss)


def eager_masked_softmax(x: torch.Tensor, mask: Mask) -> torch.Tensor:
    return torch.softmax(x.masked_fill(mask, -1e4), -1)


def masked_softmax(x: torch.Tensor, mask: torch.Tensor) -> Any:
    """The same, by other operations, that torch differentiates as often as one likes."""
    kept = torch.where(mask, -1e4, widen(x))
    powers = torch.exp(kept - kept.amax(-1, keepdim=True).detach())
    return (powers / powers.sum(-1, keepdim=True)).to(x.dtype)


wrong_mlp = MLP_FAULTS["the bias gets a mean"]
"""One with an address."""


class FlatGelu(torch.autograd.Function):
    """A gelu whose slope is a constant to autograd."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return F.gelu(x)

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            slope = torch.ops.aten.gelu_backward(torch.ones_like(x), x)
        return g * slope


RIGHT = {
    "mlp": (make_mlp(), eager_mlp, MLP_SHAPES, False),
    "attention": (make_attention(), eager_attention, ATTENTION_SHAPES, False),
    "norm": (make_norm(), eager_norm, NORM_SHAPES, False),
    "relu": (make_relu(), eager_relu, RELU_SHAPES, False),
    "loss": (fused_loss, eager_loss, LOSS_SHAPES, False),
    "masked softmax": (masked_softmax, eager_masked_softmax, "(*b,n),(*b,n)->(*b,n)", True),
}
"""What is right, what by, its shapes, and whether its backward pass can be differentiated."""

WRONG = {
    **{f"mlp: {name}": (fn, eager_mlp, MLP_SHAPES) for name, fn in MLP_FAULTS.items()},
    **{f"attention: {name}": (f, eager_attention, ATTENTION_SHAPES) for name, f in ATTENTION_FAULTS.items()},
    **{f"norm: {name}": (fn, eager_norm, NORM_SHAPES) for name, fn in NORM_FAULTS.items()},
    "relu: it leaks": (make_relu(slope=0.01), eager_relu, RELU_SHAPES),
}
"""What is wrong, what by, and its shapes."""
