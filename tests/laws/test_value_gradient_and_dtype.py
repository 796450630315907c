"""The laws of values, of gradients, and of shapes and dtypes catch their faults and pass the spec."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gradspec.backends import Backend, load
from gradspec.backends.torch import from_numpy
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import judge_case
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


def make_backend_of_odd_gradients(name: str, convert: Callable[[Any], Any]) -> Backend:
    """Return a backend of tanh whose gradients are converted to something else."""
    right = load(name)

    def vjp(fn: Any, *inputs: Any) -> Any:
        value, pull = right.vjp(fn, *inputs)
        return value, lambda g: [convert(d) for d in pull(g)]

    return replace(right, name="odd", ops={"tanh": right.ops["tanh"]}, vjp=vjp, known={}, nests=False)


def make_number_of_array_without_axes(d: Any) -> Any:
    return d if d.ndim else np.asarray(d)[()]


def make_python_number_of_array_without_axes(d: Any) -> Any:
    return d if d.ndim else float(d)


@pytest.mark.parametrize(
    ("name", "convert"),
    [
        ("numpy", make_number_of_array_without_axes),
        ("numpy", make_python_number_of_array_without_axes),
        ("torch", make_python_number_of_array_without_axes),
        ("torch", load("torch").to_numpy),
    ],
)
def test_a_gradient_is_an_array_of_the_backend(name: str, convert: Callable[[Any], Any]) -> None:
    backend = replace(make_backend_of_odd_gradients(name, convert), dtypes={"float64"})
    # Some to_numpy take anything.
    backend = replace(backend, to_numpy=np.asarray)
    violation = find_violation(shapes_and_dtypes_are_kept, backend)
    assert "is not an odd array" in str(violation)


def test_arrays_of_several_classes_are_a_backends_own() -> None:
    def make_parameter(d: Any) -> Any:
        return torch.nn.Parameter(d)

    backend = replace(make_backend_of_odd_gradients("torch", make_parameter), dtypes={"float64"})
    assert not find_violation(shapes_and_dtypes_are_kept, backend)
    reverse = replace(load("torch"), known={}, from_numpy=lambda x: make_parameter(from_numpy(x)))
    case = Case.of("tanh", "float64", [[0.5, 1]], {}, [1, 2])
    assert judge_case(shapes_and_dtypes_are_kept, reverse, case).verdict == "agree"
