"""The law of second derivatives catches pullbacks that are right but cannot be differentiated."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradspec.backends import load
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.rare import of_every_size
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.judging.reproduce import describe_wrong_results
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.second_order import (
    has_second_derivatives,
    put_pairs_of_zeros,
    second_derivatives_agree,
)
from gradspec.properties.running.causes import identify_cause
from gradspec.properties.test_second_order import EXPONENTS_OF_SECOND_DERIVATIVES
from gradspec.reference import OPS, VJP, record
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


# What roundings explain, and what they do not


@record
def divide_by_a_square(x: Any, y: Any) -> VJP:
    return x / y, (lambda g: g / y, lambda g: -g * x / (y * y))


def find_sign(x: Any) -> Any:
    return divide_by_a_square(x, OPS["abs"](x))


def abs_by_a_sign(x: Any) -> VJP:
    return np.abs(x), (lambda g: g * find_sign(x),)


def abs_by_a_square_root(x: Any) -> VJP:
    return np.abs(x), (lambda g: g * (x / OPS["sqrt"](OPS["square"](x))),)


def relu_by_a_sign(x: Any) -> VJP:
    return OPS["relu"].rule(x)[0], (lambda g: (g + g * find_sign(x)) / 2,)


def maximum_by_a_sign(x: Any, y: Any) -> VJP:
    sign = find_sign(x - y)
    return np.maximum(x, y), (lambda g: (g + g * sign) / 2, lambda g: (g - g * sign) / 2)


RIGHT: list[tuple[str, Callable[..., VJP]]] = [
    ("abs", abs_by_a_sign),
    ("abs", abs_by_a_square_root),
    ("relu", relu_by_a_sign),
    ("maximum", maximum_by_a_sign),
]


@pytest.mark.parametrize(("op", "rule"), RIGHT)
def test_formulas_whose_terms_cancel_near_a_kink_pass(op: str, rule: Callable[..., VJP]) -> None:
    backend = make_backend_of_rules(**{op: rule})
    for case in of_every_size(OPS[op], ["float64", "float32"], EXPONENTS_OF_SECOND_DERIVATIVES):
        assert judge_case(second_derivatives_agree, backend, case).verdict in ("agree", "lossy")
    assert not find_violation(second_derivatives_agree, backend, **SECOND_ORDER_CASE_OPTIONS)


def bend(op: str, error: float) -> Callable[..., VJP]:
    """Return a rule of right first derivatives, the second one by x off by `error` times g, or g / x^2."""

    def bend_first(x: Any, vjp: VJP) -> VJP:
        y, pullbacks = vjp
        first, *rest = pullbacks  # type: ignore[misc]
        bent = error * (x - unwrap(x)) * (1 if op != "log" else 1 / unwrap(x) ** 2)
        return y, (lambda g: first(g) + g * bent, *rest)  # type: ignore[misc]

    if len(OPS[op].domains) == 2:
        return lambda x, y: bend_first(x, OPS[op].rule(x, y))
    return lambda x: bend_first(x, OPS[op].rule(x))


@pytest.mark.parametrize("op", ["abs", "relu", "maximum", "log", "exp", "tanh", "multiply"])
def test_moderate_numbers_are_judged_as_tightly_as_ever(op: str) -> None:
    backend = make_backend_of_rules(**{op: bend(op, 1e-13)})
    case = Case.of(op, "float64", [1.5, 0.75][: len(OPS[op].domains)], {}, 1)
    judgement = judge_case(second_derivatives_agree, backend, case)
    assert (judgement.verdict, judgement.raised) == ("disagree", False)
    assert judge_case(every_gradient_agrees, backend, case).verdict == "agree"


@pytest.mark.parametrize(("op", "x"), [("exp", 1e-100), ("log", 1e-50), ("tanh", 1e-100), ("softplus", 1e-9)])
def test_tiny_numbers_are_judged_tightly_away_from_kinks(op: str, x: float) -> None:
    backend = make_backend_of_rules(**{op: bend(op, 1e-12)})
    judgement = judge_case(second_derivatives_agree, backend, Case.of(op, "float64", [x], {}, 1))
    assert (judgement.verdict, judgement.raised) == ("disagree", False)


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize(
    "op", ["abs", "relu", "maximum", "minimum", "where", "clip", "divide", "pow", "sqrt"]
)
def test_right_second_derivatives_near_kinks_and_poles_agree(name: str, op: str) -> None:
    backend = load(name)
    for case in of_every_size(OPS[op], sorted(backend.dtypes), EXPONENTS_OF_SECOND_DERIVATIVES):
        assert judge_case(second_derivatives_agree, backend, case).verdict != "disagree"


# The direction


def divide_whose_second_derivative_is_twice(x: Any, y: Any) -> VJP:
    def by_x(g: Any) -> Any:
        d = g / y
        return d + d - unwrap(d)

    return x / y, (by_x, lambda g: -g * x / y / y)


def test_the_direction_is_told_unless_it_is_1() -> None:
    backend = make_backend_of_rules(divide=divide_whose_second_derivative_is_twice)
    one = Case.of("divide", "float64", [[2.0], [2.0]], {}, [1])
    judgement = judge_case(second_derivatives_agree, backend, one)
    assert judgement.reason.startswith(
        "the derivative by y of the gradient of x at (0,) is -0.5, expected -0.25, "
    )
    assert describe_wrong_results(second_derivatives_agree, backend, one, judgement) == [
        "# derivative by y of the gradient of x at (0,): expected -0.25, got -0.5"
    ]
    cause = identify_cause("", "divide", judgement.reason)

    two = Case.of("divide", "float64", [[2.0, 4.0], [2.0, 4.0]], {}, [1, 1])
    judgement = judge_case(second_derivatives_agree, backend, two)
    told, literal = judgement.reason.split("\nv = ")
    assert told.startswith("the derivative by y of the gradient of x along v at ")
    script = describe_wrong_results(second_derivatives_agree, backend, two, judgement)
    assert script[0] == f"v = np.array({literal}, np.float64)"
    names: dict[str, Any] = {"np": np}
    exec("\n".join(script), names)  # it can be pasted
    assert judgement.wrong is not None
    (at,) = judgement.wrong.at
    assert judgement.wrong.expected == -names["v"][at] / two.inputs[1][at] ** 2
    assert identify_cause("", "divide", judgement.reason) == cause


@pytest.mark.parametrize("length", [1, 2, 5])
def test_pairs_of_zeros_are_put_into_inputs_alone(length: int) -> None:
    case = Case.of("prod", "float64", [np.ones((length, 2))], {"axis": 0}, [3, 3])
    adapted = put_pairs_of_zeros(case, axis=2)
    assert np.array_equal(adapted.cotangent, case.cotangent)
    assert {*np.argwhere(adapted.inputs[0][:, 0] == 0)[:, 0]} == {0, length - 1}


def test_zeros_are_put_into_the_inputs_of_an_empty_value() -> None:
    case = Case.of("getitem", "float64", [[1, 2]], {"key": slice(0, 0)}, [])
    assert np.array_equal(put_pairs_of_zeros(case, axis=0).inputs[0], [0, 0])
