"""Subgradients at kinks: the faults that the law is for, and the conventions it leaves open."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradspec.backends import load
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.kinks import RANDOM_MOVES, iterate_kink_sides
from gradspec.properties.drawing.kinked import kinked_cases
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.kinks import gradient_at_kinks_is_a_legal_subgradient
from gradspec.properties.laws.linearity import pullback_is_linear_in_the_cotangent
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.targets import OpUnderTest
from gradspec.reference import OPS, VJP
from tests.helpers.planting import find_violation, make_backend_of_rules


def draw_kink_cases(target: OpUnderTest) -> Any:
    return kinked_cases(target.op, target.dtypes, cases_per_example=2)


def relu_of_slope_two_at_zero(x: Any) -> VJP:
    return np.maximum(x, 0), (lambda g: g * np.where(x == 0, 2, x > 0).astype(x.dtype),)


def relu_of_no_slope_at_zero(x: Any) -> VJP:
    return np.maximum(x, 0), (lambda g: g * (x / x) * (x > 0),)


def abs_that_is_too_steep_at_zero(x: Any) -> VJP:
    return np.abs(x), (lambda g: g * np.where(x == 0, -1.5, np.sign(x)).astype(x.dtype),)


def maximum_that_pays_twice_at_a_tie(x: Any, y: Any) -> VJP:
    return np.maximum(x, y), (lambda g: g * (x >= y), lambda g: g * (y >= x))


def maximum_that_pays_nobody_at_a_tie(x: Any, y: Any) -> VJP:
    return np.maximum(x, y), (lambda g: g * (x > y), lambda g: g * (y > x))


def max_that_pays_every_winner(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
    y = np.max(x, axis=axis, keepdims=True)
    value = np.max(x, axis=axis, keepdims=keepdims)
    return value, (lambda g: np.reshape(g, y.shape) * (x == y),)


FAULTS: dict[str, list[Callable[..., VJP]]] = {
    "relu": [relu_of_slope_two_at_zero, relu_of_no_slope_at_zero],
    "abs": [abs_that_is_too_steep_at_zero],
    "maximum": [maximum_that_pays_twice_at_a_tie, maximum_that_pays_nobody_at_a_tie],
    "max": [max_that_pays_every_winner],
}


@pytest.mark.rotating
@pytest.mark.parametrize(("op", "rule"), [(op, rule) for op, rules in FAULTS.items() for rule in rules])
def test_an_illegal_subgradient_is_caught_and_by_no_other_law(op: str, rule: Callable[..., VJP]) -> None:
    backend = make_backend_of_rules(**{op: rule})
    assert find_violation(gradient_at_kinks_is_a_legal_subgradient, backend, draw_cases=draw_kink_cases)
    assert not find_violation(every_gradient_agrees, backend, smooth=True)
    assert not find_violation(pullback_is_linear_in_the_cotangent, backend, smooth=True)
    assert not find_violation(value_agrees, backend)


def relu_flat_at_zero(x: Any) -> VJP:
    return np.maximum(x, 0), (lambda g: g * (x > 0),)


def relu_steep_at_zero(x: Any) -> VJP:
    return np.maximum(x, 0), (lambda g: g * (x >= 0),)


def abs_with_a_slope_at_zero(x: Any) -> VJP:
    return np.abs(x), (lambda g: g * np.where(x == 0, 0.25, np.sign(x)).astype(x.dtype),)


def maximum_that_prefers_the_first(x: Any, y: Any) -> VJP:
    return np.maximum(x, y), (lambda g: g * (x >= y), lambda g: g * (y > x))


def max_that_picks_an_index(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
    axes = tuple(range(x.ndim)) if axis is None else tuple(np.atleast_1d(axis).astype(int) % max(x.ndim, 1))
    y = np.max(x, axis=axes, keepdims=True)
    is_repeated = np.zeros(x.shape, bool)  # whether an element equal to it came before
    for place in np.ndindex(x.shape):
        earlier = [p for p in np.ndindex(x.shape) if p < place and _are_in_same_row(p, place, axes)]
        is_repeated[place] = any(x[p] == x[place] for p in earlier)
    value, is_winner = np.max(x, axis=axes, keepdims=keepdims), (x == y) & ~is_repeated
    return value, (lambda g: np.reshape(g, y.shape) * is_winner,)


def _are_in_same_row(p: tuple[int, ...], q: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    return all(i in axes or a == b for i, (a, b) in enumerate(zip(p, q, strict=True)))


RIGHT_RULES: dict[str, list[Callable[..., VJP]]] = {
    "relu": [relu_flat_at_zero, relu_steep_at_zero, OPS["relu"].rule],
    "abs": [abs_with_a_slope_at_zero],
    "maximum": [maximum_that_prefers_the_first],
    "clip": [OPS["clip"].rule],
    "max": [max_that_picks_an_index, OPS["max"].rule],
}


@pytest.mark.parametrize(("op", "rule"), [(op, rule) for op, rules in RIGHT_RULES.items() for rule in rules])
def test_every_convention_is_legal(op: str, rule: Callable[..., VJP]) -> None:
    backend = make_backend_of_rules(**{op: rule})
    assert not find_violation(gradient_at_kinks_is_a_legal_subgradient, backend, draw_cases=draw_kink_cases)


def make_clip_that_pays(*shares: float) -> Callable[..., VJP]:
    def clip(x: Any, min: Any, max: Any) -> VJP:  # noqa: A002
        return np.clip(x, min, max), tuple(lambda g, share=share: g * share for share in shares)

    return clip


@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.25, 0.5, 0.25)], ids=str)
def test_where_x_and_both_bounds_meet_any_of_them_may_be_paid_everywhere(shares: tuple[float, ...]) -> None:
    case = Case.of("clip", "float64", [0.0, np.zeros(8), np.zeros(8)], {}, np.arange(1.0, 9))
    law, twice = gradient_at_kinks_is_a_legal_subgradient, [2 * share for share in shares]
    assert law(make_backend_of_rules(clip=make_clip_that_pays(*shares)), case).verdict == "agree"
    assert law(make_backend_of_rules(clip=make_clip_that_pays(*twice)), case).verdict == "disagree"


def relu_of_zeros() -> Case:
    return make_tied_case("relu", [np.zeros(70_000)])


def maximum_of_equals() -> Case:
    return make_tied_case("maximum", [np.ones(70_000), np.ones(70_000)])


def max_of_equals() -> Case:
    return make_tied_case("max", [np.ones(70_000)])


def make_tied_case(op: str, inputs: list[Any], dtype: str = "float32") -> Case:
    shape = np.shape(OPS[op].rule(*inputs)[0])
    return Case.of(op, dtype, inputs, {}, np.random.default_rng(1).uniform(1, 2, shape))


def max_that_counts_in(dtype: Any) -> Callable[..., VJP]:
    """Return a rule whose winners are counted in a dtype: in float16 70,000 are infinitely many."""

    def rule(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
        is_winner = x == np.max(x)
        with np.errstate(over="ignore"):
            count = np.sum(is_winner, dtype=dtype)
        return np.max(x), (lambda g: (g / count * is_winner).astype(x.dtype),)

    return rule


MANY_TIES: list[tuple[Callable[[], Case], Callable[..., VJP], bool]] = [
    (relu_of_zeros, relu_flat_at_zero, True),
    (relu_of_zeros, OPS["relu"].rule, True),
    (relu_of_zeros, relu_of_slope_two_at_zero, False),
    (maximum_of_equals, maximum_that_prefers_the_first, True),
    (maximum_of_equals, OPS["maximum"].rule, True),
    (maximum_of_equals, maximum_that_pays_nobody_at_a_tie, False),
    (maximum_of_equals, maximum_that_pays_twice_at_a_tie, False),
    (max_of_equals, OPS["max"].rule, True),
    (max_of_equals, max_that_pays_every_winner, False),
]


@pytest.mark.parametrize(("make_case", "rule", "is_right"), MANY_TIES)
def test_of_very_many_ties_what_can_be_judged_is(
    make_case: Callable[[], Case], rule: Callable[..., VJP], is_right: bool
) -> None:
    case = make_case()
    tracemalloc.start()
    judgement = gradient_at_kinks_is_a_legal_subgradient(make_backend_of_rules(**{case.op.name: rule}), case)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert judgement.verdict == ("agree" if is_right else "disagree"), judgement.reason
    assert judgement.informative
    # A few rows of float64 for each of the 16 sides: far from 70,000 rows.
    assert peak < 5 * 16 * sum(x.size for x in case.inputs) * 8


def test_a_count_of_ties_that_overflows_is_caught() -> None:
    case = make_tied_case("max", [np.ones(70_000)], "float16")
    for dtype, verdict in ((np.float32, "agree"), (np.float16, "disagree")):
        backend = make_backend_of_rules(max=max_that_counts_in(dtype))
        assert gradient_at_kinks_is_a_legal_subgradient(backend, case).verdict == verdict


def test_of_few_elements_each_is_in_turn_the_highest_and_the_lowest() -> None:
    case = Case.of("relu", "float64", [np.zeros(12)], {}, np.ones(12))
    sides = [side.inputs[0] for side in iterate_kink_sides(case)]
    assert len(sides) == 4 + 3 * 12 + RANDOM_MOVES
    for choose in (np.argmax, np.argmin):
        assert {int(choose(x)) for x in sides[4 : 4 + 3 * 12]} == {*range(12)}
    assert all(np.all(x != 0) and np.max(np.abs(x)) < 1e-15 for x in sides)


def test_a_case_without_a_kink_says_nothing() -> None:
    case = Case.of("relu", "float32", [[1.0, -2.0]], {}, [1.0, 2.0])
    assert not gradient_at_kinks_is_a_legal_subgradient(load("numpy"), case).informative
