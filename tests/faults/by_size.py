"""General faults of sign and size, of the cotangent, and of one argument taken for another."""

import numpy as np

from faults.fault import LINEARITY, VALUE, Array, Call, Pull
from faults.general import gradient, value
from gradspec.reference import Op

SIZE, COTANGENT, ARGUMENTS = "size", "cotangent", "arguments"
SLIGHTLY = 1e-4  # more than float32 loses in most ops, less than anyone would see in a plot


def several_gradients(op: Op) -> bool:
    return not op.variadic and len(op.differentiable_arguments(len(op.arguments))) > 1


def several_different_gradients(op: Op) -> bool:
    return several_gradients(op) and op.name != "add"


@gradient(SIZE)
def is_negated(p: Pull) -> Array:
    return -p.d


@gradient(SIZE)
def is_doubled(p: Pull) -> Array:
    return p.scaled(2)


@gradient(SIZE, each=True)
def is_slightly_too_large(p: Pull) -> Array:
    return p.scaled(1 + SLIGHTLY)


@gradient(SIZE, each=True)
def is_zero(p: Pull) -> Array:
    return np.zeros_like(p.x)


@gradient(COTANGENT)
def ignores_the_cotangent(p: Pull) -> Array:
    return p.of(np.ones_like(p.g))


@gradient(COTANGENT)
def applies_the_cotangent_twice(p: Pull) -> Array:
    return p.of(p.g * p.g)


@gradient(COTANGENT)
def takes_the_size_of_the_cotangent(p: Pull) -> Array:
    return p.of(np.abs(p.g))


@gradient(COTANGENT)
def takes_the_mean_of_the_cotangent(p: Pull) -> Array:
    return p.of(np.full_like(p.g, np.mean(p.g) if p.g.size else 0))


@gradient(COTANGENT, likely=LINEARITY)
def clips_the_cotangent(p: Pull) -> Array:
    return p.of(np.clip(p.g, -1e4, 1e4))


@gradient(COTANGENT, likely=LINEARITY)
def drops_small_cotangents(p: Pull) -> Array:
    return p.of(np.where(np.abs(p.g) < 1e-5, 0, p.g).astype(p.g.dtype))


@gradient(ARGUMENTS, each=True, when=several_different_gradients)
def is_that_of_another_argument(p: Pull) -> Array:
    others = [d for j, d in enumerate(p.pulled(p.g)) if j != p.i and d is not None]
    return next((d for d in others if d.shape == p.full.shape), p.full)


@gradient(ARGUMENTS, when=several_gradients)
def is_right_only_where_the_shapes_are_equal(p: Pull) -> Array:
    return p.d if all(x.shape == p.x.shape for x in p.xs) else p.scaled(0.5)


@value(SIZE)
def is_inverted(c: Call) -> Array:
    return ~c.y if c.y.dtype.kind in "bi" else -c.y


@value(SIZE, when=lambda op: op.differentiable, likely=VALUE)
def is_slightly_too_large_(c: Call) -> Array:
    return (c.y * (1 + SLIGHTLY)).astype(c.y.dtype)
