"""The law about second derivatives catches pullbacks that cannot be differentiated, which are right by themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, settings

from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.second_order import has_second_derivatives, second_derivatives_agree
from gradspec.reference import OPS, VJP
from gradspec.reference.dispatch import unwrap
from tests.helpers.planting import QUIET_SETTINGS, find_violation, make_backend_of_rules

FIRST_FAILURE_SETTINGS = settings(
    QUIET_SETTINGS, phases=[Phase.generate]
)  # without looking for the smallest case
SECOND_ORDER_CASES: dict[str, Any] = {"smooth": True, "cases_per_example": 1, "max_elements": 40}


def tanh_that_saves_a_constant(x: Any) -> VJP:
    y = np.tanh(unwrap(x))
    return np.tanh(x), (lambda g: g * (1 - y * y),)


def multiply_that_forgets_where_the_cotangent_is_from(x: Any, y: Any) -> VJP:
    return np.multiply(x, y), (lambda g: unwrap(g) * y, lambda g: g * x)


def layer_norm_of_constant_statistics(x: Any, weight: Any, bias: Any, *, eps: float = 1e-5) -> VJP:
    value, _ = OPS["layer_norm"].rule(x, weight, bias, eps=eps)
    _, (_, to_weight, to_bias) = OPS["layer_norm"].rule(x, weight, bias, eps=eps)  # type: ignore[misc]
    to_x = OPS["layer_norm"].rule(unwrap(x), weight, bias, eps=eps)[1][0]  # type: ignore[index]
    return value, (to_x, to_weight, to_bias)


def negative_that_is_cut_off(x: Any) -> VJP:
    return np.negative(x), (lambda g: -unwrap(g),)


def square_as_a_sum(x: Any) -> VJP:
    return np.square(x), (lambda g: g * x + x * g,)


FAULTS: list[tuple[str, Callable[..., VJP]]] = [
    ("tanh", tanh_that_saves_a_constant),
    ("multiply", multiply_that_forgets_where_the_cotangent_is_from),
    ("layer_norm", layer_norm_of_constant_statistics),
    ("negative", negative_that_is_cut_off),
]


@pytest.mark.parametrize(("op", "rule"), FAULTS)
def test_a_fault_is_found_and_by_no_law_about_first_derivatives(op: str, rule: Callable[..., VJP]) -> None:
    assert find_violation(
        second_derivatives_agree,
        make_backend_of_rules(**{op: rule}),
        example_settings=FIRST_FAILURE_SETTINGS,
        **SECOND_ORDER_CASES,
    )
    assert not find_violation(every_gradient_agrees, make_backend_of_rules(**{op: rule}), smooth=True)


def test_other_formulas_pass() -> None:
    assert not find_violation(
        second_derivatives_agree, make_backend_of_rules(square=square_as_a_sum), **SECOND_ORDER_CASES
    )
    assert find_violation(
        second_derivatives_agree,
        make_backend_of_rules(square=lambda x: (x * x, (lambda g: g * unwrap(2 * x),))),
    )


def test_which_ops_have_second_derivatives_is_found_by_trying() -> None:
    assert not any(
        has_second_derivatives(OPS[name]) for name in ("add", "relu", "max", "sum", "reshape", "where")
    )
    assert all(
        has_second_derivatives(OPS[name]) for name in ("multiply", "tanh", "matmul", "var", "softmax", "prod")
    )
