"""Where ops are not differentiable.

A kink is a function of the arguments and keywords of an op. It returns, for each array argument, the distance of every
element to the nearest kink, in the argument's shape: 0 on a kink, inf where there is none. Properties keep a distance
where they differentiate numerically, and seek zero where they ask for a legal subgradient.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradspec.reference.axes import normalize_axes
from gradspec.reference.rule import Array

KinkDistances = Callable[..., tuple[Array, ...]]


def points(*at: float) -> KinkDistances:
    """Kinks of an op of one argument at fixed values of it."""

    def distance(x: Array, **_: Any) -> tuple[Array, ...]:
        return (np.min([np.abs(x - p) for p in at], axis=0),)

    return distance


def ties(*xs: Array, **_: Any) -> tuple[Array, ...]:
    """Kinks of an elementwise op wherever two of its arguments are equal."""
    everywhere = np.broadcast_shapes(*(np.shape(x) for x in xs))
    return tuple(
        _min_over_broadcast([np.abs(x - y) for j, y in enumerate(xs) if j != i], np.shape(x), everywhere)
        for i, x in enumerate(xs)
    )


def extreme_ties(sign: int) -> KinkDistances:
    """Kinks of a maximum (sign 1) or minimum (sign -1) over axes wherever two elements share it."""

    def distance(x: Array, *, axis: Any = None, **_: Any) -> tuple[Array, ...]:
        axes = normalize_axes(axis, x.ndim)
        last = tuple(range(-len(axes), 0))
        y = np.moveaxis(sign * x, axes, last)
        rows = y.reshape((*y.shape[: y.ndim - len(axes)], math.prod(y.shape[y.ndim - len(axes) :])))
        if rows.shape[-1] < 2:
            return (np.full(x.shape, np.inf),)
        runner_up, top = np.moveaxis(np.sort(rows)[..., -2:, None], -2, 0)
        gap = np.where(rows == top, top - runner_up, top - rows)
        return (np.moveaxis(gap.reshape(y.shape), last, axes),)

    return distance


def _min_over_broadcast(distances: list[Array], shape: tuple[int, ...], everywhere: tuple[int, ...]) -> Array:
    """The least distance over all elements that an argument of this shape is broadcast to."""
    least = np.min([np.broadcast_to(d, everywhere) for d in distances], axis=0)
    lead = len(everywhere) - len(shape)
    stretched = tuple(i for i, n in enumerate(shape, lead) if n == 1)
    return np.min(least, axis=(*range(lead), *stretched), keepdims=True, initial=np.inf).reshape(shape)
