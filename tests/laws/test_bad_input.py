"""Bad input: the law catches backends that accept what the spec refuses, and those that refuse everything."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import find, settings

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.drawing.bad_input import bad_input_cases
from gradspec.properties.laws.bad_input import what_the_spec_refuses_raises
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.targets import OpUnderTest
from gradspec.reference import OPS, VJP
from tests.helpers.planting import (
    GENERATE_ONLY_SETTINGS,
    find_violation,
    make_backend_of_ops,
    make_backend_of_rules,
)


def draw_refused_cases(target: OpUnderTest) -> Any:
    return bad_input_cases(target.op, target.dtypes, allow_bad_indices=True)


def linear_that_broadcasts_its_bias(x: Any, weight: Any, bias: Any = None) -> VJP:
    return OPS["linear"].rule(x, weight, bias if bias is None else np.resize(bias, weight.shape[:1]))


def sum_that_wraps_its_axes(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
    wrapped = axis % max(x.ndim, 1) if isinstance(axis, int) else axis
    return OPS["sum"].rule(x, axis=wrapped, keepdims=keepdims)


def sum_that_overlooks_an_axis_named_twice(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
    once = tuple(dict.fromkeys(a % x.ndim for a in axis)) if isinstance(axis, tuple) else axis
    return OPS["sum"].rule(x, axis=once, keepdims=keepdims)


def cross_entropy_that_clamps_targets(x: Any, target: Any, *, reduction: Any = "mean") -> VJP:
    classes = x.shape[min(1, x.ndim - 1)]
    return OPS["cross_entropy"].rule(x, np.clip(target, 0, classes - 1), reduction=reduction)


def cross_entropy_of_any_word(x: Any, target: Any, *, reduction: Any = "mean") -> VJP:
    known = reduction if reduction in ("none", "sum") else "mean"
    return OPS["cross_entropy"].rule(x, target, reduction=known)


def cross_entropy_that_rounds_targets(x: Any, target: Any, *, reduction: Any = "mean") -> VJP:
    return OPS["cross_entropy"].rule(x, np.asarray(target).astype(np.int64), reduction=reduction)


def where_any_number_is_true(condition: Any, x: Any, y: Any) -> VJP:
    return OPS["where"].rule(np.asarray(condition) != 0, x, y)


def getitem_that_rounds_indices(x: Any, *, key: Any) -> VJP:
    def round_floats(part: Any) -> Any:
        return part.astype(np.int64) if isinstance(part, np.ndarray) and part.dtype.kind == "f" else part

    return OPS["getitem"].rule(x, key=tuple(map(round_floats, key)) if isinstance(key, tuple) else key)


def reshape_that_repeats(x: Any, *, shape: Any) -> VJP:
    if -1 in shape or x.size == np.prod(shape, dtype=int):
        return OPS["reshape"].rule(x, shape=shape)
    return np.resize(x, shape), (lambda g: np.resize(g, x.shape),)


FAULTS: dict[str, list[Callable[..., VJP]]] = {
    "linear": [linear_that_broadcasts_its_bias],
    "sum": [sum_that_wraps_its_axes, sum_that_overlooks_an_axis_named_twice],
    "cross_entropy": [
        cross_entropy_that_clamps_targets,
        cross_entropy_of_any_word,
        cross_entropy_that_rounds_targets,
    ],
    "where": [where_any_number_is_true],
    "getitem": [getitem_that_rounds_indices],
    "reshape": [reshape_that_repeats],
}


@pytest.mark.rotating
@pytest.mark.parametrize(("op", "rule"), [(op, rule) for op, rules in FAULTS.items() for rule in rules])
def test_taking_what_the_spec_refuses_is_caught_and_by_no_other_law(
    op: str, rule: Callable[..., VJP]
) -> None:
    backend = make_backend_of_rules(**{op: rule})
    # A key of floats, for one, is drawn in none to three of 40 examples.
    many = settings(GENERATE_ONLY_SETTINGS, max_examples=400)
    assert find_violation(
        what_the_spec_refuses_raises, backend, example_settings=many, draw_cases=draw_refused_cases
    )
    assert not find_violation(value_agrees, backend, cases_per_example=1)
    assert not find_violation(every_gradient_agrees, backend, cases_per_example=1, smooth=True)


def resize_cotangents(backend: Backend) -> Backend:
    """Return the backend with cotangents of any shape made to fit."""

    def vjp(fn: Any, *xs: Any) -> Any:
        value, pullback = backend.vjp(fn, *xs)
        return value, lambda g: pullback(np.resize(g, value.shape))

    return replace(backend, vjp=vjp)


def test_a_cotangent_of_another_shape_is_refused() -> None:
    backend = resize_cotangents(make_backend_of_ops({"tanh": OPS["tanh"].apply}))
    assert find_violation(what_the_spec_refuses_raises, backend, draw_cases=draw_refused_cases)


def test_raising_always_is_no_way_out() -> None:
    def raise_always(x: Any) -> Any:
        raise NotImplementedError

    backend = make_backend_of_ops({"tanh": raise_always})
    assert find_violation(what_the_spec_refuses_raises, backend, draw_cases=draw_refused_cases)


def linear_with_errors_of_its_own(x: Any, weight: Any, bias: Any = None) -> VJP:
    if np.shape(bias) not in (weight.shape[:1], ()) or x.shape[-1:] != weight.shape[1:]:
        raise ArithmeticError
    return OPS["linear"].rule(x, weight, bias)


@pytest.mark.parametrize(
    ("op", "rule"),
    [("linear", linear_with_errors_of_its_own), ("sum", OPS["sum"].rule), ("getitem", OPS["getitem"].rule)],
)
def test_any_error_will_do(op: str, rule: Callable[..., VJP]) -> None:
    backend = make_backend_of_rules(**{op: rule})
    assert not find_violation(what_the_spec_refuses_raises, backend, draw_cases=draw_refused_cases)


def make_backend_that_stops_recording_after_an_error() -> Backend:
    """Return a backend that records nothing from its first error on."""
    right, records = make_backend_of_ops({"matmul": OPS["matmul"].apply}, "spec"), [True]

    def vjp(fn: Any, *inputs: Any) -> Any:
        recorded, records[0] = records[0], False
        value, pullback = right.vjp(fn, *inputs)
        records[0] = recorded
        return value, pullback if recorded else lambda g: tuple(0 * d for d in pullback(g))

    return replace(right, vjp=vjp)


def test_a_refusal_leaves_nothing_behind() -> None:
    case = Case.of("matmul", "float64", [[[1, 2]], [[3, 4]]], {}, [[1]])
    judgement = what_the_spec_refuses_raises(make_backend_that_stops_recording_after_an_error(), case)
    assert judgement.verdict == "disagree"
    assert "from then on" in judgement.reason
    right = make_backend_of_ops({"matmul": OPS["matmul"].apply})
    assert what_the_spec_refuses_raises(right, case).verdict == "agree"


def test_there_are_no_cases_without_a_wide_dtype() -> None:
    strategy = bad_input_cases(OPS["exp"], ["bfloat16", "float16"], allow_bad_indices=True)
    assert find(strategy, lambda _: True, settings=settings(database=None)) == []
