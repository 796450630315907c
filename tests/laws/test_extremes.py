"""Extreme numbers: the faults that the law is for, and what it leaves open."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradspec.properties.cases.case import Case
from gradspec.properties.drawing.extreme import extreme_cases
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.extremes import extremes_go_where_the_spec_says
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.targets import OpUnderTest
from gradspec.reference import OPS, VJP
from gradspec.reference.softmax import pull_share
from tests.helpers.planting import find_violation, make_backend_of_rules


def draw_extreme_cases(target: OpUnderTest) -> Any:
    return extreme_cases(target.op, target.dtypes, cases_per_example=6)


def sigmoid_whose_gradient_overflows(x: Any) -> VJP:
    y, _ = OPS["sigmoid"].rule(x)
    return y, (lambda g: g * np.exp(-x) / (1 + np.exp(-x)) ** 2,)


def divide_that_squares(x: Any, y: Any) -> VJP:
    return x / y, (lambda g: g / y, lambda g: -g * x / (y * y))


def maximum_that_ignores_nan(x: Any, y: Any) -> VJP:
    _, pulls = OPS["maximum"].rule(x, y)
    return np.fmax(x, y), pulls


def softmax_of_any_number(x: Any, *, axis: int = -1) -> VJP:
    e = np.exp(np.clip(x, -80, 80))
    y = e / np.sum(e, axis=axis, keepdims=True)
    return y, (lambda g: y * (g - np.sum(g * y, axis=axis, keepdims=True)),)


def exp_that_stays_finite(x: Any) -> VJP:
    y = np.nan_to_num(np.exp(x))
    return y, (lambda g: g * y,)


FAULTS: dict[str, list[Callable[..., VJP]]] = {
    "sigmoid": [sigmoid_whose_gradient_overflows],
    "divide": [divide_that_squares],
    "maximum": [maximum_that_ignores_nan],
    "softmax": [softmax_of_any_number],
    "exp": [exp_that_stays_finite],
}


@pytest.mark.parametrize(("op", "rule"), [(op, rule) for op, rules in FAULTS.items() for rule in rules])
def test_a_number_that_goes_elsewhere_is_caught(op: str, rule: Callable[..., VJP]) -> None:
    backend = make_backend_of_rules(**{op: rule})
    assert find_violation(extremes_go_where_the_spec_says, backend, draw_cases=draw_extreme_cases)


@pytest.mark.rotating
@pytest.mark.parametrize(
    ("op", "rule"), [("divide", divide_that_squares), ("maximum", maximum_that_ignores_nan)]
)
def test_a_number_that_goes_elsewhere_is_caught_by_no_other_law(op: str, rule: Callable[..., VJP]) -> None:
    backend = make_backend_of_rules(**{op: rule})
    assert not find_violation(value_agrees, backend)
    assert not find_violation(every_gradient_agrees, backend, smooth=True)


def flush_tiny_numbers(x: Any) -> Any:
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, 0, x).astype(x.dtype)


def multiply_that_flushes(x: Any, y: Any) -> VJP:
    z, _ = OPS["multiply"].rule(x, y)
    return flush_tiny_numbers(z), (
        lambda g: flush_tiny_numbers(g * y),
        lambda g: flush_tiny_numbers(g * x),
    )


def softmax_that_is_nan_throughout(x: Any, *, axis: int = -1) -> VJP:
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    y = e / np.sum(e, axis=axis, keepdims=True)
    return y, (lambda g: pull_share(g, y, axis),)


RIGHT_RULES: dict[str, list[Callable[..., VJP]]] = {
    "multiply": [multiply_that_flushes, OPS["multiply"].rule],
    "maximum": [OPS["maximum"].rule],
    "softmax": [softmax_that_is_nan_throughout, OPS["softmax"].rule],
    "layer_norm": [OPS["layer_norm"].rule],
}


@pytest.mark.parametrize(("op", "rule"), [(op, rule) for op, rules in RIGHT_RULES.items() for rule in rules])
def test_what_ieee_leaves_open_is_open(op: str, rule: Callable[..., VJP]) -> None:
    backend = make_backend_of_rules(**{op: rule})
    assert not find_violation(extremes_go_where_the_spec_says, backend, draw_cases=draw_extreme_cases)


def test_a_gelu_that_is_flat_has_a_gradient() -> None:
    x = np.array([1e30, -1e30, 3e13], np.float32)
    with np.errstate(all="ignore"):
        _, pulls = OPS["gelu"].rule(x, approximate="tanh")
        (gradient,) = [pull(np.ones_like(x)) for pull in pulls]  # type: ignore[union-attr, misc]
    assert gradient.tolist() == [1, 0, 1]


def var_that_stays_finite(x: Any, *, axis: Any = None, correction: float = 0, keepdims: bool = False) -> VJP:
    y, pulls = OPS["var"].rule(x, axis=axis, correction=correction, keepdims=keepdims)
    return np.clip(y, 0, np.finfo(x.dtype).max), pulls


@pytest.mark.parametrize(("size", "verdict"), [(1e300, "disagree"), (1.5e154, "agree")])
def test_what_is_far_beyond_the_largest_number_is_infinite_in_any_order(size: float, verdict: str) -> None:
    case = Case.of("var", "float64", [[size, -size, size]], {"axis": 0}, 1)
    backend = make_backend_of_rules(var=var_that_stays_finite)
    assert judge_case(extremes_go_where_the_spec_says, backend, case).verdict == verdict


def test_a_product_that_underflows_on_its_way_to_infinity_may_be_nan() -> None:
    def never_infinite(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
        y, pulls = OPS["prod"].rule(x, axis=axis, keepdims=keepdims)
        return np.where(np.isinf(y), np.nan, y).astype(y.dtype), pulls

    def judge_product(*numbers: float) -> str:
        case = Case.of("prod", "float16", [numbers], {"axis": 0}, 2)
        backend = make_backend_of_rules(prod=never_infinite)
        return judge_case(extremes_go_where_the_spec_says, backend, case).verdict

    # The product of the first four is 0 in float16.
    assert judge_product(0.001, 0.001, -0.01, -0.01, -np.inf) != "disagree"
    assert judge_product(2.0, 0.5, -np.inf) == "disagree"


def test_a_sum_of_partial_sums_that_overflow_in_sixteen_bits_may_be_nan() -> None:
    """The gradient of y, 2 * 65504, is inf - inf where each product of the batch is rounded to 16 bits."""

    def by_batches(x: Any, y: Any) -> VJP:
        z, (pull_x, pull_y) = OPS["matmul"].rule(x, y)  # type: ignore[misc]
        return z, (pull_x, lambda g: np.sum(pull_y(g), axis=0, keepdims=True))  # type: ignore[misc]

    x, cotangent = [[[65504], [65504]]] * 2, [[[3], [2]], [[-1], [-2]]]
    case = Case.of("matmul", "float16", [x, [[[0]]]], {}, cotangent)
    backend = make_backend_of_rules(matmul=by_batches)
    assert judge_case(extremes_go_where_the_spec_says, backend, case).verdict != "disagree"


def test_what_an_infinite_statistic_divides_may_be_zero() -> None:
    """Squared distances from the mean are finite here; that of the two numbers from each other overflows."""

    def by_differences(x: Any, weight: Any, bias: Any, *, eps: float = 1e-5) -> VJP:
        with np.errstate(over="ignore"):
            squared = (x[..., :1] - x[..., 1:]) ** 2 / 4
        centred = x - np.mean(x, axis=-1, keepdims=True)
        return centred / np.sqrt(squared + eps) * weight + bias, OPS["layer_norm"].rule(x, weight, bias)[1]

    def judge_layer_norm(size: float) -> str:
        inputs = [[[size, -size / 4]], [1, 2], [1, 3]]
        case = Case.of("layer_norm", "float64", inputs, {"eps": 1e-5}, [[-1, 0.75]])
        backend = make_backend_of_rules(layer_norm=by_differences)
        return judge_case(extremes_go_where_the_spec_says, backend, case).verdict

    assert judge_layer_norm(1.3e154) != "disagree"
    assert judge_layer_norm(1.3e150) == "agree"
