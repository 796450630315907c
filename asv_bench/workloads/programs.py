"""Programs written once for every engine, and for some the same gradients written out by hand in NumPy.

A program takes the namespace of its engine (`log`, `relu`, `linear`, ...) and the inputs, whose operators it
may also use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Range = tuple[float, float]


@dataclass(frozen=True)
class Workload:
    """A program with its inputs, and how far from hand-written NumPy the tape may be.

    Attributes:
        key: its name in one word.
        name: its name for people.
        size: the one of `calls.SIZES` whose cost makes up most of its time.
        program: the function from a namespace and the inputs to a value.
        by_hand: the function from the inputs and the cotangent to the gradients of the inputs.
        inputs: the arrays; those that have a gradient come first.
        cotangent: of the value.
        differentiable_count: how many inputs have a gradient.
        rtol: how far apart the gradients may be, relative to the largest element.
        over_hand: the tape's time over that of `by_hand`: the lowest and the highest of six runs of
            `tools/ratios.py`. This is what is promised.
        hips_over_tape: HIPS autograd's time over the tape's, likewise.
    """

    key: str
    name: str
    size: str
    program: Callable[..., Any]
    by_hand: Callable[..., tuple[Array, ...]] | None
    inputs: tuple[Array, ...]
    cotangent: Array
    differentiable_count: int
    rtol: float
    over_hand: Range | None = None
    hips_over_tape: Range | None = None


def chain(ops: Any, x: Any, w: Any, *, steps: int) -> Any:
    """Run two ops a step; with w between 3 and 4 the values settle near the solution of y = log(y w)."""
    for _ in range(steps):
        x = ops.log(x * w)
    return x


def chain_by_hand(x: Array, w: Array, g: Array, *, steps: int) -> tuple[Array, ...]:
    """Differentiate p = x w and y = log p: dp = g / p, dw = dp x, dx = dp w."""
    trace = []
    for _ in range(steps):
        p = x * w
        trace.append((x, p))
        x = np.log(p)
    gw = np.zeros_like(w)
    for x, p in reversed(trace):
        gp = g / p
        gw += gp * x
        g = gp * w
    return np.asarray(g), gw


def mlp(ops: Any, w1: Any, b1: Any, w2: Any, b2: Any, x: Any, target: Any) -> Any:
    """Compute the loss of a perceptron with one hidden layer."""
    return ops.cross_entropy(ops.linear(ops.relu(ops.linear(x, w1, b1)), w2, b2), target)


def mlp_by_hand(
    w1: Array, b1: Array, w2: Array, b2: Array, x: Array, target: Array, g: Array
) -> tuple[Array, ...]:
    """Differentiate: with p = softmax(logits), their cotangent is (p - onehot) / n.

    Each layer has dW = g^T x, db = sum g, dx = g W.
    """
    h = x @ w1.T + b1
    a = np.maximum(h, 0)
    z = a @ w2.T + b2
    z -= z.max(axis=1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    rows = np.arange(len(target))
    _loss = -logp[rows, target].mean()
    gz = np.exp(logp)
    gz[rows, target] -= 1
    gz *= g / np.float32(len(target))
    gh = gz @ w2
    gh *= h > 0
    return gh.T @ x, gh.sum(axis=0), gz.T @ a, gz.sum(axis=0)


def broadcast(ops: Any, a: Any, b: Any) -> Any:
    """Combine a column and a row: both gradients are sums over the table that they span."""
    return a * b + b


def broadcast_by_hand(a: Array, b: Array, g: Array) -> tuple[Array, ...]:
    """Sum the products as one would write them down first."""
    _y = a * b + b
    ga = (g * b).sum(axis=1, keepdims=True)
    return ga, (g * a).sum(axis=0, keepdims=True) + g.sum(axis=0, keepdims=True)


def layer_norm(ops: Any, x: Any, weight: Any, bias: Any) -> Any:
    """Run one op, where the engine has it."""
    return ops.layer_norm(x, weight, bias)


def layer_norm_by_hand(x: Array, weight: Array, bias: Array, g: Array) -> tuple[Array, ...]:
    """Use the formulas of the textbook, each as one pass over the whole array."""
    centred = x - x.mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    xhat = centred * rstd
    _y = xhat * weight + bias
    gx = g * weight
    along = (gx * xhat).mean(axis=-1, keepdims=True)
    return rstd * (gx - gx.mean(axis=-1, keepdims=True) - xhat * along), (g * xhat).sum(axis=0), g.sum(axis=0)


def transformer_block(ops: Any, x: Any, *parameters: Any, heads: int) -> Any:
    """Run attention and a perceptron, each after a layer_norm and added to its input (Xiong et al., 2020).

    Args:
        ops: the namespace of the engine.
        x: an array of shape (batch, time, channels).
        *parameters: weight and bias of the first norm, of the queries, keys and values, of the projection
            that joins the heads, of the second norm, and of the perceptron's two layers.
        heads: the number of attention heads.
    """
    w1, b1, w_qkv, b_qkv, w_out, b_out, w2, b2, w_up, b_up, w_down, b_down = parameters
    n, time, channels = x.shape
    qkv = ops.reshape(
        ops.linear(ops.layer_norm(x, w1, b1), w_qkv, b_qkv), shape=(n, time, 3, heads, channels // heads)
    )
    q, k, v = (
        ops.permute_dims(ops.getitem(qkv, key=(slice(None), slice(None), i)), axes=(0, 2, 1, 3))
        for i in range(3)
    )
    scores = ops.matmul(q, ops.matrix_transpose(k)) * (channels // heads) ** -0.5
    mixed = ops.permute_dims(ops.matmul(ops.softmax(scores, axis=-1), v), axes=(0, 2, 1, 3))
    x = x + ops.linear(ops.reshape(mixed, shape=(n, time, channels)), w_out, b_out)
    return x + ops.linear(ops.gelu(ops.linear(ops.layer_norm(x, w2, b2), w_up, b_up)), w_down, b_down)


def make_workloads_without_hand_gradients() -> list[Workload]:
    """Return the programs that nobody would differentiate by hand, with the same inputs each time."""
    rng = np.random.default_rng(0)
    batch, time, channels, heads, depth = 4, 64, 128, 4, 100_000

    def draw_normal(*shape: int, scale: float = 1.0) -> Array:
        return (rng.normal(size=shape) * scale).astype(np.float32)

    def draw_layer(size_in: int, size_out: int) -> tuple[Array, Array]:
        return draw_normal(size_out, size_in, scale=size_in**-0.5), draw_normal(size_out)

    norm = (draw_normal(channels), draw_normal(channels))
    parameters = (
        *(*norm, *draw_layer(channels, 3 * channels), *draw_layer(channels, channels)),
        *(*norm, *draw_layer(channels, 4 * channels), *draw_layer(4 * channels, channels)),
    )
    block = partial(transformer_block, heads=heads)
    x = draw_normal(batch, time, channels)
    x64, w64 = np.full(8, 1.5), np.full(8, 3.5)
    return [
        Workload(
            "transformer_block",
            f"transformer block, {batch} x {time} x {channels}, {heads} heads, float32",
            "cache",
            block,
            None,
            (x, *parameters),
            draw_normal(batch, time, channels),
            differentiable_count=1 + len(parameters),
            rtol=1e-4,  # float32 through a dozen layers
        ),
        Workload(
            "depth",
            f"chain of {depth:,} ops, 8 float64",
            "overhead",
            partial(chain, steps=depth // 2),
            None,
            (x64, w64),
            np.ones(8),
            differentiable_count=2,
            rtol=1e-10,  # 50,000 shares of w are summed
        ),
    ]


def make_workloads_with_hand_gradients() -> list[Workload]:
    """Return the programs whose gradient is also written out by hand, with the same inputs each time."""
    rng = np.random.default_rng(0)

    def draw_normal(*shape: int, scale: float = 1.0) -> Array:
        return (rng.normal(size=shape) * scale).astype(np.float32)

    def make_chain(key: str, name: str, *shape: int, over_hand: Range, hips_over_tape: Range) -> Workload:
        return Workload(
            key,
            name,
            "overhead",
            partial(chain, steps=500),
            partial(chain_by_hand, steps=500),
            # arrays even if 0-d
            (np.asarray(rng.uniform(1, 2, shape)), np.asarray(rng.uniform(3, 4, shape))),
            np.asarray(rng.normal(size=shape)),
            differentiable_count=2,
            rtol=1e-12,  # float64, and the shares of w are summed in the same order
            over_hand=over_hand,
            hips_over_tape=hips_over_tape,
        )

    parameters = (
        draw_normal(256, 784, scale=0.05),
        draw_normal(256),
        draw_normal(10, 256, scale=0.05),
        draw_normal(10),
    )
    images, labels = draw_normal(128, 784), rng.integers(0, 10, 128)
    return [
        make_chain(
            "chain", "chain of 1,000 ops, 8 float64", 8, over_hand=(1.85, 2.0), hips_over_tape=(4.8, 5.4)
        ),
        make_chain(
            "scalar_chain",
            "chain of 1,000 ops, 0-d float64",
            over_hand=(2.13, 2.46),
            hips_over_tape=(4.2, 4.7),
        ),
        Workload(
            "mlp",
            "MLP 784-256-10, batch 128, float32",
            "cache",
            mlp,
            mlp_by_hand,
            (*parameters, images, labels),
            np.asarray(1, np.float32),
            differentiable_count=4,
            rtol=1e-5,  # sums of 128 float32 products in another order
            over_hand=(1.1, 1.25),
            hips_over_tape=(1.9, 2.0),
        ),
        Workload(
            "broadcasting",
            "a*b + b, (4096,1) with (1,1024), float32",
            "memory",
            broadcast,
            broadcast_by_hand,
            (draw_normal(4096, 1), draw_normal(1, 1024)),
            draw_normal(4096, 1024),
            differentiable_count=2,
            rtol=1e-5,  # sums of 4,096 float32 numbers in another order
            over_hand=(0.99, 1.04),
            hips_over_tape=(1.0, 1.1),
        ),
        Workload(
            "layer_norm",
            "layer_norm (4096,1024), float32",
            "memory",
            layer_norm,
            layer_norm_by_hand,
            (draw_normal(4096, 1024), draw_normal(1024), draw_normal(1024)),
            draw_normal(4096, 1024),
            differentiable_count=3,
            rtol=1e-5,  # sums of 4,096 float32 numbers in another order
            over_hand=(0.5, 0.69),
            hips_over_tape=(3.8, 5.4),
        ),
    ]
