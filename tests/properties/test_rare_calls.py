"""Calls that are rare but allowed: they are among those drawn, so that a fault in these alone is found."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import pytest

from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.test_value import cases_without_defaults
from gradspec.reference import OPS, VJP
from tests.helpers.planting import find_violation, make_backend_of_rules

Rule = Callable[..., VJP]


def double_gradients_when(op: str, when: Callable[..., bool]) -> Rule:
    """Return the rule of an op with all its gradients doubled in the calls that a predicate selects."""

    @wraps(OPS[op].rule)
    def rule(*xs: Any, **keywords: Any) -> VJP:
        y, pullbacks = OPS[op].rule(*xs, **keywords)
        factor = 2 if when(*xs, **keywords) else 1

        def pull(g: Any) -> Any:
            gradients = pullbacks(g) if callable(pullbacks) else [p and p(g) for p in pullbacks or ()]
            return tuple(None if d is None else factor * d for d in gradients)

        return y, pull

    return rule


def is_mask(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype == np.bool_


def has_mask_among_others(x: Any, *, key: Any) -> bool:
    return isinstance(key, tuple) and any(map(is_mask, key))


def has_two_new_axes(x: Any, *, key: Any) -> bool:
    return isinstance(key, tuple) and sum(part is None for part in key) > 1


def repeats_an_index_three_times(x: Any, *, key: Any) -> bool:
    indices = np.arange(x.size).reshape(x.shape)[key]
    return bool(np.any(np.unique(indices, return_counts=True)[1] > 2))


def flattens_all(*xs: Any, axis: Any) -> bool:
    return axis is None


def has_many_arrays(*xs: Any, axis: Any) -> bool:
    return len(xs) > 3


def has_four_axes(x: Any, *_: Any, **__: Any) -> bool:
    return bool(x.ndim == 4)


def normalizes_three_axes(x: Any, weight: Any, *_: Any, **__: Any) -> bool:
    return bool(weight.ndim == 3)


def has_no_bias(x: Any, weight: Any, bias: Any = None) -> bool:
    return bias is None


def has_no_upper_bound(x: Any, low: Any = None, high: Any = None) -> bool:
    return high is None


@pytest.mark.parametrize(
    ("op", "when"),
    [
        ("getitem", has_mask_among_others),
        ("getitem", has_two_new_axes),
        ("getitem", repeats_an_index_three_times),
        ("concat", flattens_all),
        ("concat", has_many_arrays),
        ("concat", has_four_axes),
        ("stack", has_many_arrays),
        ("cross_entropy", has_four_axes),
        ("layer_norm", normalizes_three_axes),
        ("linear", has_no_bias),
        ("clip", has_no_upper_bound),
    ],
)
def test_a_fault_in_rare_calls_alone_is_found(op: str, when: Callable[..., bool]) -> None:
    backend = make_backend_of_rules(**{op: double_gradients_when(op, when)})
    assert find_violation(every_gradient_agrees, backend, smooth=True)


def argmax_of_all_elements_is_0(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
    y = np.argmax(x, axis=axis, keepdims=keepdims)
    return y * (axis is not None), None


def test_an_argmax_of_all_elements_is_tried() -> None:
    assert find_violation(value_agrees, make_backend_of_rules(argmax=argmax_of_all_elements_is_0))


def var_defaults_to_correction_1(
    x: Any, *, axis: Any = None, correction: float = 1, keepdims: bool = False
) -> VJP:
    return OPS["var"].rule(x, axis=axis, correction=correction, keepdims=keepdims)


def softmax_defaults_to_first_axis(x: Any, *, axis: int = 0) -> VJP:
    return OPS["softmax"].rule(x, axis=axis)


def cross_entropy_defaults_to_sum(x: Any, target: Any, *, reduction: str = "sum") -> VJP:
    return OPS["cross_entropy"].rule(x, target, reduction=reduction)


@pytest.mark.parametrize(
    ("op", "rule"),
    [
        ("var", var_defaults_to_correction_1),
        ("softmax", softmax_defaults_to_first_axis),
        ("cross_entropy", cross_entropy_defaults_to_sum),
    ],
)
def test_other_defaults_are_found_where_keywords_are_left_out(op: str, rule: Rule) -> None:
    backend = make_backend_of_rules(**{op: rule})
    assert find_violation(value_agrees, backend, draw_cases=cases_without_defaults)
    assert not find_violation(value_agrees, backend)
