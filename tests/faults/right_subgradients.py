"""Variants with other subgradients, where an op has several legal ones."""

from typing import Any

import numpy as np

from gradspec.reference import OPS
from tests.faults.fault import Array, Rule, RuleResult
from tests.faults.own_reductions import Axis, keepdims_shape
from tests.faults.right import KIND_SUBGRADIENT, leave_missing_bounds_to_spec, right_rule


def zero_unless(mask: Array, g: Array) -> Array:
    return np.where(mask, g, 0)


@right_rule("relu", KIND_SUBGRADIENT)
def relu_is_flat_at_zero(x: Array) -> RuleResult:
    return np.maximum(x, 0), (lambda g: zero_unless(x > 0, g),)


@right_rule("relu", KIND_SUBGRADIENT)
def relu_is_steep_at_zero(x: Array) -> RuleResult:
    return np.where(x < 0, 0, x), (lambda g: zero_unless(x >= 0, g),)


@right_rule("relu", KIND_SUBGRADIENT)
def relu_slopes_by_a_quarter_at_zero(x: Array) -> RuleResult:
    return np.maximum(x, 0), (lambda g: zero_unless(x > 0, g) + zero_unless(x == 0, g / 4),)


@right_rule("abs", KIND_SUBGRADIENT)
def abs_falls_at_zero(x: Array) -> RuleResult:
    return np.abs(x), (lambda g: np.where(x > 0, g, -g),)


@right_rule("abs", KIND_SUBGRADIENT)
def abs_rises_at_zero(x: Array) -> RuleResult:
    return np.maximum(x, -x), (lambda g: np.where(x < 0, -g, g),)


@right_rule("maximum", KIND_SUBGRADIENT)
def maximum_pays_the_first_at_a_tie(x: Array, y: Array) -> RuleResult:
    return np.maximum(x, y), (lambda g: zero_unless(x >= y, g), lambda g: zero_unless(x < y, g))


@right_rule("maximum", KIND_SUBGRADIENT)
def maximum_pays_the_second_at_a_tie(x: Array, y: Array) -> RuleResult:
    return np.maximum(x, y), (lambda g: zero_unless(x > y, g), lambda g: zero_unless(x <= y, g))


@right_rule("maximum", KIND_SUBGRADIENT)
def maximum_pays_the_first_three_quarters_at_a_tie(x: Array, y: Array) -> RuleResult:
    share = np.where(x == y, 0.75, x > y).astype(x.dtype)
    return np.maximum(x, y), (lambda g: g * share, lambda g: g * (1 - share))


@right_rule("minimum", KIND_SUBGRADIENT)
def minimum_pays_the_first_at_a_tie(x: Array, y: Array) -> RuleResult:
    return np.minimum(x, y), (lambda g: zero_unless(x <= y, g), lambda g: zero_unless(x > y, g))


@right_rule("minimum", KIND_SUBGRADIENT)
def minimum_pays_the_second_at_a_tie(x: Array, y: Array) -> RuleResult:
    return np.minimum(x, y), (lambda g: zero_unless(x < y, g), lambda g: zero_unless(x >= y, g))


@right_rule("clip", KIND_SUBGRADIENT)
@leave_missing_bounds_to_spec
def clip_pays_x_on_its_bounds(x: Array, min: Array, max: Array) -> RuleResult:  # noqa: A002
    raised = np.maximum(x, min)
    return np.minimum(raised, max), (
        lambda g: zero_unless((x >= min) & (raised <= max), g),
        lambda g: zero_unless((x < min) & (raised <= max), g),
        lambda g: zero_unless(raised > max, g),
    )


@right_rule("clip", KIND_SUBGRADIENT)
@leave_missing_bounds_to_spec
def clip_pays_the_bounds_on_its_bounds(x: Array, min: Array, max: Array) -> RuleResult:  # noqa: A002
    raised = np.maximum(x, min)
    return np.minimum(raised, max), (
        lambda g: zero_unless((x > min) & (raised < max), g),
        lambda g: zero_unless((x <= min) & (raised < max), g),
        lambda g: zero_unless(raised >= max, g),
    )


def make_one_winner_rule(op: str, last: bool) -> Rule:
    """Return the rule of an extreme whose first or last winner takes all."""

    def rule(x: Array, *, axis: Axis = None, keepdims: bool = False) -> RuleResult:
        y = getattr(np, op)(x, axis=axis, keepdims=True)
        wins = x == y
        places = np.broadcast_to(np.arange(x.size).reshape(x.shape), x.shape)
        losers = -1 if last else x.size
        chosen = np.where(wins, places, losers)
        best = (np.max if last else np.min)(chosen, axis=axis, keepdims=True, initial=losers)
        takes_all = wins & (places == best)
        value = OPS[op].rule(x, axis=axis, keepdims=keepdims)[0]
        return value, (lambda g: zero_unless(takes_all, np.reshape(g, keepdims_shape(x, axis))),)

    return rule


for extreme in ("max", "min"):
    for place in ("first", "last"):
        declare = right_rule(extreme, KIND_SUBGRADIENT, f"{extreme} pays its {place} winner")
        declare(make_one_winner_rule(extreme, last=place == "last"))


@right_rule("max", KIND_SUBGRADIENT)
def max_over_axes_in_turn_shares_ties_at_each(
    x: Array, *, axis: Any = None, keepdims: bool = False
) -> RuleResult:
    """Winners share evenly along each axis, and so not evenly over all of them."""
    all_axes = range(x.ndim)
    axes = all_axes if axis is None else np.atleast_1d(np.asarray(axis, int)) % max(x.ndim, 1)
    steps, y = [], x
    for i in axes:
        top = np.max(y, axis=int(i), keepdims=True)
        steps.append((y == top) / np.sum(y == top, axis=int(i), keepdims=True).astype(x.dtype))
        y = top

    def pull(g: Array) -> Array:
        g = np.reshape(g, y.shape)
        for share in reversed(steps):
            g = zero_unless(share > 0, g * share)
        return np.broadcast_to(g, x.shape)

    return np.reshape(y, OPS["max"].rule(x, axis=axis, keepdims=keepdims)[0].shape), (pull,)
