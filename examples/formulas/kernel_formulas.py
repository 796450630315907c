"""What kernels are written for, as formulas in NumPy: copy the one that yours must agree with.

gradspec.verify(my_rope, rope, nests=False)
"""

from typing import Any

import numpy as np

from gradspec import Array, Fixed, Real, below, op, ops
from gradspec.reference.calls import Call, Choices, draw_shape


@op("(*b,n),(n)->(*b,n)", eps=[1e-6, 1e-2])
def rms_norm(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


@op(shapes="(n,2*k,s),(2*k),(2*k)->(n,2*k,s)", groups=[1, 2])
def group_norm(x: Real, weight: Real, bias: Real, *, groups: int, eps: float = 1e-5) -> Array:
    rows = np.reshape(x, (x.shape[0], groups, -1))
    centred = rows - np.mean(rows, axis=-1, keepdims=True)
    rows = centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps)
    return np.reshape(rows, x.shape) * weight[:, None] + bias[:, None]


@op("(*b,n),(*b,n)->(*b,n)")
def swiglu(gate: Real, up: Real) -> Array:
    return gate / (1 + np.exp(-gate)) * up


@op("(*b,s,2*n),(s,n),(s,n)->(*b,s,2*n)")
def rope(x: Real, cos: Fixed, sin: Fixed) -> Array:
    left, right = np.split(x, 2, axis=-1)
    return np.concat([left * cos - right * sin, right * cos + left * sin], axis=-1)


def attend(q: Array, k: Array, v: Array, *, saved: bool) -> Array:
    k, v = (np.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    scores = np.matmul(q, np.matrix_transpose(k)) / np.sqrt(q.shape[-1]).astype(q.dtype)
    scores = np.where(np.tri(q.shape[2], dtype=np.bool_), scores, -np.inf)
    top = ops.stop_gradient(np.max(scores, axis=-1, keepdims=True))
    total = np.sum(e := np.exp(scores - top), axis=-1, keepdims=True)
    return np.matmul(np.exp(scores - (top + np.log(total))), v) if saved else np.matmul(e, v) / total


# FlashAttention saves the log of the sum of exponentials, which loses digits where scores are large.
@op(shapes="(b,h*r,s,d),(b,h,s,d),(b,h,s,d)->(b,h*r,s,d)", also=[lambda q, k, v: attend(q, k, v, saved=True)])
def causal_attention(q: Real, k: Real, v: Real) -> Array:
    return attend(q, k, v, saved=False)


@op(shapes="(n,c),(n)->()", smoothing=[0.0, 0.1])
def cross_entropy(x: Real, target: below("c", spare=-100), *, smoothing: float = 0.0) -> Array:  # type: ignore[valid-type]
    kept = target != -100
    shifted = x - ops.stop_gradient(np.max(x, axis=-1, keepdims=True))
    logp = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    picked = np.take_along_axis(logp, np.where(kept, target, 0)[:, None], axis=-1)[:, 0]
    losses = -(1 - smoothing) * picked - smoothing * np.mean(logp, axis=-1)
    return np.sum(np.where(kept, losses, 0)) / np.sum(kept).astype(x.dtype)


@op("(v,d),(*b)->(*b,d)")
def embedding(weight: Real, index: below("v")) -> Array:  # type: ignore[valid-type]
    return np.take(weight, index, axis=0)


@op("(*b,n),(*b,k)->(*b,k)")
def gather(x: Real, index: below("n")) -> Array:  # type: ignore[valid-type]
    return np.take_along_axis(x, index, axis=-1)


@op(shapes="(n,d),(k,d),(k,d)->(n,d)")
def scatter_add(x: Real, index: below("n"), source: Real) -> Array:  # type: ignore[valid-type]
    goes_there = index[:, None] == np.arange(x.shape[0])[:, None]
    return x + np.sum(np.where(goes_there, source[:, None], 0), axis=0)


@op(shapes="(m,n)->(m,n)", axis=[0, 1, -1])
def cumsum(x: Real, *, axis: int) -> Array:
    return np.cumsum(x, axis=axis)


def draw_convolution(choose: Choices) -> Call:
    """A filter fits into its image, which no signature says: a function draws the shapes and the keywords."""
    n, c, k, r, s, more = (length or 1 for length in draw_shape(choose, 6, 6))
    padding = choose.of([0, 1, 2])
    h, w = (max(length - 2 * padding, 1) + more for length in (r, s))
    return Call(((n, c, h, w), (k, c, r, s), (k,)), {"stride": choose.of([1, 2]), "padding": padding})


@op(draw_convolution)
def conv2d(x: Real, weight: Real, bias: Real, *, stride: int = 1, padding: int = 0) -> Array:
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    (h, w), (r, s) = x.shape[2:], weight.shape[2:]
    y: Any = bias[:, None, None]
    for i, j in np.ndindex(r, s):
        seen = x[:, :, i : h - r + i + 1 : stride, j : w - s + j + 1 : stride]
        y = y + np.einsum("nchw,kc->nkhw", seen, weight[:, :, i, j])
    return y
