"""The laws of values, of gradients, and of shapes and dtypes catch their faults and pass the spec."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, load
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.shape_and_dtype import shapes_and_dtypes_are_kept
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.failure import Law
from gradspec.reference import OPS, VJP
from tests.helpers.planting import find_violation, make_backend_of_ops, make_backend_of_rules

multiply_rule, tanh_rule = (OPS[name].rule for name in ("multiply", "tanh"))


def tanh_of_a_naive_formula(x: Any) -> VJP:
    return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)), tanh_rule(x)[1]


def multiply_of_swapped_gradients(x: Any, y: Any) -> VJP:
    z, (pull_x, pull_y) = multiply_rule(x, y)  # type: ignore[misc]
    return z, (pull_y, pull_x)


def tanh_in_double(x: Any) -> VJP:
    return tanh_rule(x.astype(np.float64))


FAULTS: list[tuple[Law, str, Callable[..., VJP], dict[str, Any]]] = [
    (value_agrees, "tanh", tanh_of_a_naive_formula, {}),
    (every_gradient_agrees, "multiply", multiply_of_swapped_gradients, {"smooth": True}),
    (shapes_and_dtypes_are_kept, "tanh", tanh_in_double, {"cases_per_example": 1}),
]


@pytest.mark.parametrize(("law", "op", "rule", "cases"), FAULTS, ids=lambda x: getattr(x, "__name__", None))
def test_a_law_is_broken_by_its_fault_and_kept_by_the_spec(
    law: Law, op: str, rule: Callable[..., VJP], cases: dict[str, Any]
) -> None:
    assert find_violation(law, make_backend_of_rules(**{op: rule}), **cases)
    assert not find_violation(law, make_backend_of_ops({op: OPS[op].apply}, "spec"), **cases)


def make_backend_wrong_with_the_vjp_only() -> Backend:
    def vjp(fn: Any, *inputs: Any) -> Any:
        value, pull = load("numpy").vjp(fn, *inputs)
        return value * 1.001, pull

    return replace(make_backend_of_ops({"tanh": OPS["tanh"].apply}), vjp=vjp)


def test_the_value_is_looked_at_with_the_vjp_as_well() -> None:
    backend = make_backend_wrong_with_the_vjp_only()
    assert find_violation(value_agrees, backend)
    assert not find_violation(every_gradient_agrees, backend, smooth=True)
