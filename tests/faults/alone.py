"""The fault that each property alone must catch: without the property nobody would notice."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from faults import planted
from faults.fault import (
    BAD_INPUT,
    BATCHES,
    CONSTANTS,
    DEPTH,
    EXTREMES,
    EXTREMES_OF_ELEMENTS,
    GRADIENT,
    KINKS,
    LAYOUTS,
    LINEARITY,
    PROGRAMS,
    PURITY,
    SECOND_ORDER,
    SHAPES,
    SPEC,
    SYMMETRIES,
    TENSOR,
    TRAINING,
    VALUE,
    Array,
    Fault,
    Made,
    pullbacks,
)
from faults.own import words
from faults.registry import faults
from gradspec.backends import Backend, load
from gradspec.reference import OPS, Tensor, Variable, record
from gradspec.reference.dispatch import plain

OWN = "own"

Spoil = Callable[[], AbstractContextManager[Any]]


def exp_is_looked_up_where_no_gradient_is_asked_for(x: Any) -> Any:
    """In steps of 1/64."""
    if isinstance(x, Variable):
        return OPS["exp"](x)
    looked_up = (np.abs(x) > 1 / 4) & (np.abs(x) < 4)
    return np.exp(np.where(looked_up, np.round(x * 64) / 64, x).astype(x.dtype))


def softplus_has_a_gradient_interpolated_between_0_and_1(x: Array) -> Made:
    y, (pull,) = OPS["softplus"].rule(x)  # type: ignore[misc]
    slope = x.dtype.type(1 / (1 + np.exp(-1)) - 1 / 2)
    return y, (lambda g: np.where((x > 0) & (x < 1), g * (slope * x + 1 / 2), pull(g)),)  # type: ignore[misc]


def softmax_rounds_what_is_far_from_zero(x: Array, *, axis: int = -1) -> Made:
    return OPS["softmax"].rule(np.where(np.abs(x) > 900, np.round(x), x).astype(x.dtype), axis=axis)


def linear_broadcasts_its_bias(x: Array, weight: Array, bias: Array | None = None) -> Made:
    return OPS["linear"].rule(x, weight, bias if bias is None else np.resize(bias, weight.shape[:1]))


def tanh_saves_a_constant(x: Any) -> Made:
    y = np.tanh(plain(x))
    return np.tanh(x), (lambda g: g * (1 - y * y),)


def multiply_by_itself_counts_once(x: Any, y: Any) -> Any:
    return OPS["multiply"](x, plain(y) if x is y else y)


def divide_forgets_a_constant_divisor(x: Any, y: Any) -> Any:
    if isinstance(x, Variable) and not isinstance(y, Variable):
        return record(lambda x: (x / y, (lambda g: g,)))(x)
    return OPS["divide"](x, y)


def linear_has_one_workspace_for_a_whole_pass() -> Backend:
    """What the second `linear` of a program saves overwrites what the first one did."""
    workspace: dict[str, Any] = {}

    def linear(x: Array, weight: Array, bias: Array | None = None) -> Made:
        saved = workspace
        y, saved["pulled"] = pullbacks("linear", x, weight, *(() if bias is None else (bias,)))
        return y, lambda g: saved["pulled"](g)  # noqa: PLW0108 (as of then)

    def vjp(*given: Any) -> Any:
        nonlocal workspace
        workspace = {}
        return planted.SPEC.vjp(*given)

    return replace(planted.of_rule("linear", linear), vjp=vjp)


def square_has_half_its_gradient(x: Array) -> Made:
    return np.square(x), (lambda g: g * x,)


def subtracting_in_place_ignores_alpha(self: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    return self._write(self.data - plain(other), other)


def _of_rule(op: str, rule: Any, likely: str, nests: bool = False) -> Fault:
    return Fault(op, OWN, words(rule), partial(planted.of_rule, op, rule, nests=nests), likely)


def _of_op(op: str, function: Any, likely: str) -> Fault:
    backend = replace(planted.SPEC, name="faulty", ops={**planted.SPEC.ops, op: function})
    return Fault(op, OWN, words(function), lambda: backend, likely)


def _of_the_spec(op: str, change: Any, likely: str, backend: str, within: Spoil) -> Fault:
    """A fault of the spec itself."""
    return Fault(op, OWN, words(change), partial(load, backend), likely, OPS[op], within=within)


def _square_spoilt() -> AbstractContextManager[Any]:
    rule: Any = square_has_half_its_gradient
    return mock.patch.dict(vars(OPS["square"]), rule=rule, apply=record(rule, elementwise=True))


def _sub_spoilt() -> AbstractContextManager[Any]:
    return mock.patch.object(Tensor, "sub_", subtracting_in_place_ignores_alpha)


ALONE: dict[str, Fault] = {
    VALUE: _of_op("exp", exp_is_looked_up_where_no_gradient_is_asked_for, VALUE),
    GRADIENT: _of_rule("softplus", softplus_has_a_gradient_interpolated_between_0_and_1, GRADIENT),
    SHAPES: faults()["tanh: gradients of float32 are float64"],
    LAYOUTS: faults()["tanh: the gradient takes the cotangent in the order of memory"],
    LINEARITY: faults()["tanh: the gradient clips the cotangent"],
    KINKS: faults()["maximum: maximum pays nobody at a tie"],
    PURITY: faults()["exp: the call writes to its first array"],
    EXTREMES: faults()["matmul: the value is never infinite"],
    EXTREMES_OF_ELEMENTS: faults()["divide: divide squares the divisor"],
    BATCHES: faults()["log: the gradient misses what one block of threads does not reach"],
    SYMMETRIES: _of_rule("softmax", softmax_rounds_what_is_far_from_zero, SYMMETRIES),
    BAD_INPUT: _of_rule("linear", linear_broadcasts_its_bias, BAD_INPUT),
    SECOND_ORDER: _of_rule("tanh", tanh_saves_a_constant, SECOND_ORDER, nests=True),
    CONSTANTS: _of_op("divide", divide_forgets_a_constant_divisor, CONSTANTS),
    PROGRAMS: _of_op("multiply", multiply_by_itself_counts_once, PROGRAMS),
    DEPTH: faults()["programs: the pass back recurses"],
    TRAINING: Fault(
        "linear",
        OWN,
        words(linear_has_one_workspace_for_a_whole_pass),
        linear_has_one_workspace_for_a_whole_pass,
        TRAINING,
    ),
    SPEC: _of_the_spec("square", square_has_half_its_gradient, SPEC, "numpy", _square_spoilt),
    TENSOR: _of_the_spec("subtract", subtracting_in_place_ignores_alpha, TENSOR, "torch", _sub_spoilt),
}
"""By the property."""
