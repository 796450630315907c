"""The law of second derivatives catches pullbacks that are right but cannot be differentiated."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.second_order import has_second_derivatives, second_derivatives_agree
from gradspec.reference import OPS, VJP
from gradspec.reference.dispatch import unwrap
from tests.helpers.planting import find_violation, make_backend_of_rules

SECOND_ORDER_CASE_OPTIONS: dict[str, Any] = {"smooth": True, "cases_per_example": 1, "max_elements": 40}


def tanh_that_saves_a_constant(x: Any) -> VJP:
    return np.tanh(x), OPS["tanh"].rule(unwrap(x))[1]


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
    backend = make_backend_of_rules(**{op: rule})
    assert find_violation(second_derivatives_agree, backend, **SECOND_ORDER_CASE_OPTIONS)
    assert not find_violation(every_gradient_agrees, backend, smooth=True)


def test_other_formulas_pass() -> None:
    right = make_backend_of_rules(square=square_as_a_sum)
    wrong = make_backend_of_rules(square=lambda x: (x * x, (lambda g: g * unwrap(2 * x),)))
    assert not find_violation(second_derivatives_agree, right, **SECOND_ORDER_CASE_OPTIONS)
    assert find_violation(second_derivatives_agree, wrong)


def test_which_ops_have_second_derivatives_is_found_by_trying() -> None:
    assert not any(
        has_second_derivatives(OPS[name]) for name in ("add", "relu", "max", "sum", "reshape", "where")
    )
    assert all(
        has_second_derivatives(OPS[name]) for name in ("multiply", "tanh", "matmul", "var", "softmax", "prod")
    )
