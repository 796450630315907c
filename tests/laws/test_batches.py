"""The laws of batches and of symmetries catch their faults, some of which no other law can see."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradspec.properties.cases.case import Case
from gradspec.properties.laws.batches import a_batch_equals_its_members
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.symmetries import symmetries_are_kept
from gradspec.properties.laws.value import value_agrees
from gradspec.reference import OPS, VJP
from tests.helpers.planting import find_violation, make_backend_of_rules

Rule = Callable[..., VJP]
tanh, relu, linear, layer_norm, softmax, var, max_ = (
    OPS[name].rule for name in ("tanh", "relu", "linear", "layer_norm", "softmax", "var", "max")
)

# Of batches


def a_kernel_of_one_block(x: Any) -> VJP:
    y, (pull,) = tanh(x)  # type: ignore[misc]
    return y, (lambda g: np.where(np.arange(x.size).reshape(x.shape) < 1024, pull(g), 0),)  # type: ignore[misc]


def a_vectorized_kernel_that_ends_otherwise(x: Any) -> VJP:
    in_the_tail = (np.arange(x.size) >= x.size // 4 * 4).reshape(x.shape)
    return np.maximum(x, 0), (lambda g: np.where((x > 0) | ((x == 0) & in_the_tail), g, 0),)


def rows_past_the_grid_are_lost(x: Any, weight: Any, bias: Any = None) -> VJP:
    y, (pull_x, pull_weight, pull_bias) = linear(x, weight, bias)  # type: ignore[misc]
    return y, (
        pull_x,
        lambda g: pull_weight(np.where(np.arange(g.size).reshape(g.shape) < 512, g, 0)),  # type: ignore[misc]
        pull_bias,
    )


def statistics_of_the_whole_batch(x: Any, weight: Any, bias: Any, *, eps: float = 1e-5) -> VJP:
    y, pullbacks = layer_norm(x, weight, bias, eps=eps)
    return (x - x.mean()) / np.sqrt(x.var() + eps) * weight + bias if x.size else y, pullbacks


def sums_in_another_order(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
    y, pullbacks = OPS["sum"].rule(x, axis=axis, keepdims=keepdims)
    return np.sum(np.flip(x), axis=axis, keepdims=True).reshape(y.shape) if y.ndim == 0 else y, pullbacks


# Of symmetries


def softmax_of_bounded_numbers(x: Any, *, axis: int = -1) -> VJP:
    return softmax(np.clip(x, -1000, 1000), axis=axis)


def softmax_that_overflows(x: Any, *, axis: int = -1) -> VJP:
    y = np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)
    return y, softmax(x, axis=axis)[1]


def variance_that_cancels(x: Any, *, axis: Any = None, correction: float = 0, keepdims: bool = False) -> VJP:
    y, pullbacks = var(x, axis=axis, correction=correction, keepdims=keepdims)
    n = x.size / max(y.size, 1)
    mean = np.mean(x, axis=axis, keepdims=keepdims)
    return (np.mean(x * x, axis=axis, keepdims=keepdims) - mean * mean) * n / (n - correction), pullbacks


def gradient_by_place(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
    y, (pull,) = max_(x, axis=axis, keepdims=keepdims)  # type: ignore[misc]
    return y, (lambda g: pull(g) * (np.arange(x.size).reshape(x.shape) != 1),)  # type: ignore[misc]


BATCH_CASE_OPTIONS: dict[str, Any] = {"cases_per_example": 2, "max_elements": 60}
SYMMETRY_CASE_OPTIONS: dict[str, Any] = {"cases_per_example": 3, "smooth": True}
FAULTS: list[tuple[str, Rule, Any, dict[str, Any]]] = [
    ("tanh", a_kernel_of_one_block, a_batch_equals_its_members, BATCH_CASE_OPTIONS),
    ("relu", a_vectorized_kernel_that_ends_otherwise, a_batch_equals_its_members, BATCH_CASE_OPTIONS),
    ("linear", rows_past_the_grid_are_lost, a_batch_equals_its_members, BATCH_CASE_OPTIONS),
    ("layer_norm", statistics_of_the_whole_batch, a_batch_equals_its_members, BATCH_CASE_OPTIONS),
    ("softmax", softmax_of_bounded_numbers, symmetries_are_kept, SYMMETRY_CASE_OPTIONS),
    ("softmax", softmax_that_overflows, symmetries_are_kept, SYMMETRY_CASE_OPTIONS),
    ("var", variance_that_cancels, symmetries_are_kept, SYMMETRY_CASE_OPTIONS),
    ("max", gradient_by_place, symmetries_are_kept, SYMMETRY_CASE_OPTIONS),
]
UNSEEN_BY_OTHER_LAWS = (
    a_kernel_of_one_block,
    a_vectorized_kernel_that_ends_otherwise,
    rows_past_the_grid_are_lost,
    softmax_of_bounded_numbers,
)


@pytest.mark.parametrize(("op", "rule", "law", "cases"), FAULTS)
def test_a_fault_of_batches_or_symmetries_is_found(
    op: str, rule: Rule, law: Any, cases: dict[str, Any]
) -> None:
    assert find_violation(law, make_backend_of_rules(**{op: rule}), **cases)


@pytest.mark.rotating
@pytest.mark.parametrize(
    ("op", "rule"), [(op, rule) for op, rule, *_ in FAULTS if rule in UNSEEN_BY_OTHER_LAWS]
)
def test_some_faults_are_seen_by_no_other_law(op: str, rule: Rule) -> None:
    backend = make_backend_of_rules(**{op: rule})
    assert not find_violation(value_agrees, backend)
    assert not find_violation(every_gradient_agrees, backend, smooth=True)


def prod_in_the_dtype_itself(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
    y, pullbacks = OPS["prod"].rule(x.astype(np.float32), axis=axis, keepdims=keepdims)
    product = x.dtype.type(1)
    for factor in x.ravel():
        product = product * factor
    return np.full_like(x, product, shape=y.shape), pullbacks


def test_a_product_may_underflow_in_one_order_and_not_in_another() -> None:
    case = Case.of("prod", "float16", [[2**-12, 2**-13, 2**10, 2**5]], {"axis": None}, 1.0)
    assert prod_in_the_dtype_itself(*case.inputs)[0] == 0
    backend = replace(make_backend_of_rules(prod=prod_in_the_dtype_itself), dtypes=frozenset({"float16"}))
    assert symmetries_are_kept(backend, case).verdict == "agree"


def test_a_sum_over_members_may_add_up_what_is_a_sum_within_each_of_them() -> None:
    """Here 8 rows of 550 members, one by one: that is off by more units than there are members."""
    g = np.zeros((8, 1, 4))
    g[:4, 0] = [[0, 0, 0.8, 0.8], [0, 0, -2, 0.8], [-1, 0.6, 0.6, 1], [2, -1, 0.8, -0.5]]
    case = Case.of("linear", "float64", [np.zeros((8, 1, 1)), np.zeros((4, 1)), np.zeros(4)], {}, g)
    assert a_batch_equals_its_members(make_backend_of_rules(linear=linear), case).verdict == "agree"


def test_sums_may_be_in_any_order() -> None:
    backend = make_backend_of_rules(sum=sums_in_another_order)
    assert not find_violation(a_batch_equals_its_members, backend, **BATCH_CASE_OPTIONS)
    assert not find_violation(symmetries_are_kept, backend, **SYMMETRY_CASE_OPTIONS)
