"""Right in another way: other legal subgradients where an op has several."""

from typing import Any

import numpy as np

from faults.fault import Array, Made
from faults.own_reductions import Axis, kept
from faults.right import SUBGRADIENT, right
from gradspec.reference import OPS


def where(mask: Array, g: Array) -> Array:
    return np.where(mask, g, 0)


@right("relu", SUBGRADIENT)
def relu_is_flat_at_zero(x: Array) -> Made:
    return np.maximum(x, 0), (lambda g: where(x > 0, g),)


@right("relu", SUBGRADIENT)
def relu_is_steep_at_zero(x: Array) -> Made:
    return np.where(x < 0, 0, x), (lambda g: where(x >= 0, g),)


@right("relu", SUBGRADIENT)
def relu_slopes_by_a_quarter_at_zero(x: Array) -> Made:
    return np.maximum(x, 0), (lambda g: where(x > 0, g) + where(x == 0, g / 4),)


@right("abs", SUBGRADIENT)
def abs_falls_at_zero(x: Array) -> Made:
    return np.abs(x), (lambda g: np.where(x > 0, g, -g),)


@right("abs", SUBGRADIENT)
def abs_rises_at_zero(x: Array) -> Made:
    return np.maximum(x, -x), (lambda g: np.where(x < 0, -g, g),)


@right("maximum", SUBGRADIENT)
def maximum_pays_the_first_at_a_tie(x: Array, y: Array) -> Made:
    return np.maximum(x, y), (lambda g: where(x >= y, g), lambda g: where(x < y, g))


@right("maximum", SUBGRADIENT)
def maximum_pays_the_second_at_a_tie(x: Array, y: Array) -> Made:
    return np.maximum(x, y), (lambda g: where(x > y, g), lambda g: where(x <= y, g))


@right("maximum", SUBGRADIENT)
def maximum_pays_the_first_three_quarters_at_a_tie(x: Array, y: Array) -> Made:
    share = np.where(x == y, 0.75, x > y).astype(x.dtype)
    return np.maximum(x, y), (lambda g: g * share, lambda g: g * (1 - share))


@right("minimum", SUBGRADIENT)
def minimum_pays_the_first_at_a_tie(x: Array, y: Array) -> Made:
    return np.minimum(x, y), (lambda g: where(x <= y, g), lambda g: where(x > y, g))


@right("minimum", SUBGRADIENT)
def minimum_pays_the_second_at_a_tie(x: Array, y: Array) -> Made:
    return np.minimum(x, y), (lambda g: where(x < y, g), lambda g: where(x >= y, g))


@right("clip", SUBGRADIENT)
def clip_pays_x_on_its_bounds(
    x: Array,
    min: Array | None = None,  # noqa: A002
    max: Array | None = None,  # noqa: A002
) -> Made:
    if min is None or max is None:
        return OPS["clip"].rule(x, min, max)
    raised = np.maximum(x, min)
    return np.minimum(raised, max), (
        lambda g: where((x >= min) & (raised <= max), g),
        lambda g: where((x < min) & (raised <= max), g),
        lambda g: where(raised > max, g),
    )


@right("clip", SUBGRADIENT)
def clip_pays_the_bounds_on_its_bounds(
    x: Array,
    min: Array | None = None,  # noqa: A002
    max: Array | None = None,  # noqa: A002
) -> Made:
    if min is None or max is None:
        return OPS["clip"].rule(x, min, max)
    raised = np.maximum(x, min)
    return np.minimum(raised, max), (
        lambda g: where((x > min) & (raised < max), g),
        lambda g: where((x <= min) & (raised < max), g),
        lambda g: where(raised >= max, g),
    )


def one_winner(op: str, last: bool, x: Array, axis: Axis, keepdims: bool) -> Made:
    """An extreme whose first or last winner takes all."""
    y = getattr(np, op)(x, axis=axis, keepdims=True)
    wins = x == y
    places = np.broadcast_to(np.arange(x.size).reshape(x.shape), x.shape)
    losers = -1 if last else x.size
    chosen = np.where(wins, places, losers)
    best = (np.max if last else np.min)(chosen, axis=axis, keepdims=True, initial=losers)
    value = OPS[op].rule(x, axis=axis, keepdims=keepdims)[0]
    return value, (lambda g: where(wins & (places == best), np.reshape(g, kept(x, axis))),)


@right("max", SUBGRADIENT)
def max_pays_its_first_winner(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    return one_winner("max", False, x, axis, keepdims)


@right("max", SUBGRADIENT)
def max_pays_its_last_winner(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    return one_winner("max", True, x, axis, keepdims)


@right("min", SUBGRADIENT)
def min_pays_its_first_winner(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    return one_winner("min", False, x, axis, keepdims)


@right("min", SUBGRADIENT)
def min_pays_its_last_winner(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
    return one_winner("min", True, x, axis, keepdims)


@right("max", SUBGRADIENT)
def max_over_axes_in_turn_shares_ties_at_each(x: Array, *, axis: Any = None, keepdims: bool = False) -> Made:
    """Winners share evenly along each axis, and so not evenly over all of them."""
    axes = (
        tuple(range(x.ndim)) if axis is None else tuple(np.atleast_1d(np.asarray(axis, int)) % max(x.ndim, 1))
    )
    steps, y = [], x
    for i in axes:
        top = np.max(y, axis=int(i), keepdims=True)
        steps.append((y == top) / np.sum(y == top, axis=int(i), keepdims=True).astype(x.dtype))
        y = top

    def pull(g: Array) -> Array:
        g = np.reshape(g, y.shape)
        for share in reversed(steps):
            g = where(share > 0, g * share)
        return np.broadcast_to(g, x.shape)

    return np.reshape(y, OPS["max"].rule(x, axis=axis, keepdims=keepdims)[0].shape), (pull,)
