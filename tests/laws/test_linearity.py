"""Linearity in the cotangent: the faults that the law is for, and the freedom it leaves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import differentiate
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.linearity import pullback_is_linear_in_the_cotangent
from gradspec.properties.laws.value import value_agrees
from gradspec.reference import OPS, VJP
from gradspec.reference.rule import Array
from tests.helpers.planting import find_violation, make_backend_of_rules

Change = Callable[[Array], Array]


def make_tanh_seeing(change: Change) -> Callable[..., VJP]:
    """Return the rule of tanh, with a pullback that sees the cotangent only after this change."""
    tanh: Any = OPS["tanh"].rule

    def rule(x: Array) -> VJP:
        y, (pull,) = tanh(x)
        return y, (lambda g: pull(change(g)),)

    return rule


def clip_large_numbers(g: Array) -> Array:
    return np.clip(g, -1e4, 1e4)


def drop_small_numbers(g: Array) -> Array:
    return np.where(np.abs(g) < 1e-5, 0, g)


def drop_dwarfed_numbers(g: Array) -> Array:
    return np.where(np.abs(g) < 1e-4 * np.max(np.abs(g), initial=0), 0, g)


def guard_against_zero(g: Array) -> Array:
    return g + (g == 0) * g.dtype.type(1e-12)


def divide_by_sum_and_multiply_back(g: Array) -> Array:
    return g * (np.sum(np.abs(g)) / np.sum(np.abs(g)))


FAULTS = [
    clip_large_numbers,
    drop_small_numbers,
    drop_dwarfed_numbers,
    guard_against_zero,
    divide_by_sum_and_multiply_back,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pullback_that_is_not_linear_is_caught(fault: Change) -> None:
    assert find_violation(
        pullback_is_linear_in_the_cotangent,
        make_backend_of_rules(tanh=make_tanh_seeing(fault)),
        cases_per_example=1,
    )


def test_no_other_law_sees_a_clipped_cotangent() -> None:
    backend = make_backend_of_rules(tanh=make_tanh_seeing(clip_large_numbers))
    assert not find_violation(every_gradient_agrees, backend, smooth=True)
    assert not find_violation(value_agrees, backend)


def relu_that_is_flat_at_zero(x: Any) -> VJP:
    return np.maximum(x, 0), (lambda g: np.where(x > 0, g, 0),)


def tanh_of_another_formula(x: Any) -> VJP:
    return np.tanh(x), (lambda g: g / np.cosh(x) ** 2,)


@pytest.mark.parametrize(
    ("op", "rule"),
    [
        ("relu", relu_that_is_flat_at_zero),
        ("tanh", tanh_of_another_formula),
        ("max", OPS["max"].rule),
        ("layer_norm", OPS["layer_norm"].rule),
        # It rounds, as a fused kernel might.
        ("tanh", make_tanh_seeing(lambda g: g / 3 * 3)),
    ],
)
def test_a_pullback_may_choose_and_round_as_it_likes(op: str, rule: Callable[..., VJP]) -> None:
    assert not find_violation(
        pullback_is_linear_in_the_cotangent, make_backend_of_rules(**{op: rule}), cases_per_example=1
    )


def divide_with_the_quotient_first(x: Any, y: Any) -> VJP:
    """Divide as torch does: its pullback multiplies the factors with each other before the cotangent."""
    return x / y, (lambda g: g / y, lambda g: -g * ((x / y) / y))


def test_a_factor_of_the_cotangent_may_overflow() -> None:
    """0.25 / 0.001^2 overflows in float16, so that zero times it is NaN."""
    case = Case.of("divide", "float16", [[0, 0.25], [1, -0.001]], {}, [0, 0])
    backend = make_backend_of_rules(divide=divide_with_the_quotient_first)
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isnan(differentiate(backend, case).gradients["y"][1])
    assert judge_case(pullback_is_linear_in_the_cotangent, backend, case).verdict != "disagree"


def tanh_of_the_first_cotangent(x: Array) -> VJP:
    tanh: Any = OPS["tanh"].rule
    y, (pull,) = tanh(x)
    answers: list[Array] = []

    def repeat_first(g: Array) -> Array:
        answers.append(pull(g))
        return answers[0].copy()

    return y, (repeat_first,)


def test_a_pullback_that_repeats_its_first_answer_is_found() -> None:
    backend = make_backend_of_rules(tanh=tanh_of_the_first_cotangent)
    assert find_violation(pullback_is_linear_in_the_cotangent, backend, cases_per_example=1)
    assert not find_violation(every_gradient_agrees, backend, smooth=True)
