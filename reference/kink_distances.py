"""Distances to kinks, the points where ops are not differentiable.

`KinkDistances` is a function of the arguments and keywords of an op. It returns, for each array argument, the
distance of every element to the nearest kink, in the argument's shape: 0 on a kink, inf where there is none.
Properties keep away from kinks where they differentiate numerically, and choose distance 0 where they ask for
a legal subgradient.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradspec.reference.axes import normalize_axes
from gradspec.reference.rule import Array

KinkDistanceFunction = Callable[..., tuple[Array, ...]]


def points(*at: float) -> KinkDistanceFunction:
    """Return the distances of an op of one argument whose kinks are these values."""

    def distance(x: Array, **_: Any) -> tuple[Array, ...]:
        return (np.min([np.abs(x - p) for p in at], axis=0),)

    return distance


def ties(*xs: Array, **_: Any) -> tuple[Array, ...]:
    """Return the distances of an elementwise op with kinks wherever two of its arguments are equal."""
    full_shape = np.broadcast_shapes(*(np.shape(x) for x in xs))
    return tuple(
        _min_over_broadcast([np.abs(x - y) for j, y in enumerate(xs) if j != i], np.shape(x), full_shape)
        for i, x in enumerate(xs)
    )


def smooth(*xs: Array, **_: Any) -> tuple[Array, ...]:
    """Return the distances of an op without kinks, although its formula looks as if it had some.

    A softplus that takes x itself above 40, say.
    """
    return tuple(np.full(np.shape(x), np.inf) for x in xs)


def extreme_ties(sign: int) -> KinkDistanceFunction:
    """Return the distances of a maximum (sign 1) or minimum (sign -1) over axes, with kinks at ties."""

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


def ties_along_axis(x: Array, *, axis: int = -1, **_: Any) -> tuple[Array, ...]:
    """Return the distances of an op that orders the elements along an axis, with kinks at ties."""
    order = np.argsort(x, axis=axis, kind="stable")
    gaps = np.diff(np.take_along_axis(x, order, axis), axis=axis)
    shape = tuple(1 if i == axis % x.ndim else n for i, n in enumerate(x.shape))
    end = np.full(shape, np.inf, x.dtype)
    nearest = np.minimum(np.concat([end, gaps], axis=axis), np.concat([gaps, end], axis=axis))
    return (np.take_along_axis(nearest, np.argsort(order, axis=axis), axis),)


def _min_over_broadcast(distances: list[Array], shape: tuple[int, ...], full_shape: tuple[int, ...]) -> Array:
    """Return the least of the distances over all elements that each element of this shape is broadcast to."""
    least = np.min([np.broadcast_to(d, full_shape) for d in distances], axis=0)
    lead = len(full_shape) - len(shape)
    stretched = tuple(i for i, n in enumerate(shape, lead) if n == 1)
    return np.min(least, axis=(*range(lead), *stretched), keepdims=True, initial=np.inf).reshape(shape)
