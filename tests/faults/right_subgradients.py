"""Right in another way: other legal subgradients where an op has several."""

from typing import Any

import numpy as np

from faults.fault import Array, Made, Rule
from faults.own_reductions import Axis, kept
from faults.right import SUBGRADIENT, right, with_both_bounds
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
@with_both_bounds
def clip_pays_x_on_its_bounds(x: Array, min: Array, max: Array) -> Made:  # noqa: A002
    raised = np.maximum(x, min)
    return np.minimum(raised, max), (
        lambda g: where((x >= min) & (raised <= max), g),
        lambda g: where((x < min) & (raised <= max), g),
        lambda g: where(raised > max, g),
    )


@right("clip", SUBGRADIENT)
@with_both_bounds
def clip_pays_the_bounds_on_its_bounds(x: Array, min: Array, max: Array) -> Made:  # noqa: A002
    raised = np.maximum(x, min)
    return np.minimum(raised, max), (
        lambda g: where((x > min) & (raised < max), g),
        lambda g: where((x <= min) & (raised < max), g),
        lambda g: where(raised >= max, g),
    )


def one_winner(op: str, last: bool) -> Rule:
    """An extreme whose first or last winner takes all."""

    def rule(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Made:
        y = getattr(np, op)(x, axis=axis, keepdims=True)
        wins = x == y
        places = np.broadcast_to(np.arange(x.size).reshape(x.shape), x.shape)
        losers = -1 if last else x.size
        chosen = np.where(wins, places, losers)
        best = (np.max if last else np.min)(chosen, axis=axis, keepdims=True, initial=losers)
        value = OPS[op].rule(x, axis=axis, keepdims=keepdims)[0]
        return value, (lambda g: where(wins & (places == best), np.reshape(g, kept(x, axis))),)

    return rule


for extreme in ("max", "min"):
    right(extreme, SUBGRADIENT, f"{extreme} pays its first winner")(one_winner(extreme, last=False))
    right(extreme, SUBGRADIENT, f"{extreme} pays its last winner")(one_winner(extreme, last=True))


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
