"""For each property a fault that it alone must catch: without the property nobody would notice the fault."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from gradspec.backends import Backend, load
from gradspec.properties.drawing.program_builder import MAX_PROGRAM_ELEMENTS
from gradspec.reference import OPS, Tensor, Variable, record
from gradspec.reference.dispatch import unwrap
from tests.faults import planted_backends
from tests.faults.fault import (
    ADAPTER_PROPERTY,
    BAD_INPUT_PROPERTY,
    BATCHES_PROPERTY,
    CONSTANTS_PROPERTY,
    DEPTH_PROPERTY,
    ELEMENTWISE_EXTREMES_PROPERTY,
    EVERY_LAYOUT_PROPERTY,
    EXTREMES_PROPERTY,
    GRADIENT_PROPERTY,
    KEYWORDS_PROPERTY,
    KINKS_PROPERTY,
    LAYOUTS_PROPERTY,
    LINEARITY_PROPERTY,
    MANY_ELEMENTS_PROPERTY,
    PROGRAMS_PROPERTY,
    PURITY_PROPERTY,
    RARE_PROPERTY,
    SECOND_ORDER_PROPERTY,
    SECOND_ORDER_SIZES_PROPERTY,
    SEVERAL_VALUES_PROPERTY,
    SHAPES_PROPERTY,
    SHARED_INPUTS_PROPERTY,
    SPEC_PROPERTY,
    STABILITY_PROPERTY,
    SYMMETRIES_PROPERTY,
    TENSOR_PROPERTY,
    TRAINING_PROPERTY,
    VALUE_PROPERTY,
    Array,
    Fault,
    RuleResult,
    apply_spec_rule,
    spell_out_name,
)
from tests.faults.own import KIND_OWN
from tests.faults.registry import faults

SpoilSpec = Callable[[], AbstractContextManager[Any]]


MAX_PREPARED_WEIGHTS = 20  # that a fault of linear keeps


def var_corrects_by_1_unless_told_otherwise(
    x: Any, *, axis: Any = None, correction: float = 1, keepdims: bool = False
) -> Any:
    return OPS["var"](x, axis=axis, correction=correction, keepdims=keepdims)


def softplus_has_a_gradient_of_1_between_15_and_19(x: Array) -> RuleResult:
    # Programs meet no numbers so large, and what is tried of every size are 11, 22 and the like.
    y, (pull,) = OPS["softplus"].rule(x)  # type: ignore[misc]
    return y, (lambda g: np.where((x > 15) & (x < 19), g, pull(g)),)  # type: ignore[misc]


def softmax_rounds_what_is_near_1024(x: Array, *, axis: int = -1) -> RuleResult:
    is_near = np.abs(np.abs(x) - 1024) < 8
    return OPS["softmax"].rule(np.where(is_near, np.round(x), x).astype(x.dtype), axis=axis)


def linear_broadcasts_its_bias(x: Array, weight: Array, bias: Array | None = None) -> RuleResult:
    return OPS["linear"].rule(x, weight, bias if bias is None else np.resize(bias, weight.shape[:1]))


def softplus_bends_up_to_size_3_alone(x: Any) -> RuleResult:
    """Beyond that its slope is saved as a constant."""
    slope = OPS["sigmoid"](x)
    bent = np.where(np.abs(unwrap(x)) > 3, unwrap(slope), slope)
    return OPS["softplus"].rule(x)[0], (lambda g: g * bent,)


def sum_overflows_where_squares_do(x: Array, *, axis: Any = None, keepdims: bool = False) -> RuleResult:
    y, pullbacks = OPS["sum"].rule(x, axis=axis, keepdims=keepdims)
    return np.where(np.isinf(y * y), y * y * np.sign(y), y), pullbacks


def tanh_of_a_number_without_axes_is_float64(x: Array) -> RuleResult:
    y, pullbacks = OPS["tanh"].rule(x)
    return (y if np.ndim(x) else np.asarray(y, np.float64)), pullbacks


def tanh_ignores_the_negative_stride_of_a_cotangent_of_one_axis(x: Array) -> RuleResult:
    y, (pull,) = OPS["tanh"].rule(x)  # type: ignore[misc]

    def pull_forwards(g: Array) -> Array:
        return pull(np.flip(g) if g.ndim == 1 and g.strides[0] < 0 else g)  # type: ignore[misc]

    return y, (pull_forwards,)


def tanh_takes_a_cotangent_that_is_channels_last_for_one_in_c_order(x: Array) -> RuleResult:
    y, (pull,) = OPS["tanh"].rule(x)  # type: ignore[misc]

    def pull_in_the_order_of_memory(g: Array) -> Array:
        is_channels_last = g.ndim == 4 and g.transpose(0, 2, 3, 1).flags.c_contiguous
        return pull(g.ravel(order="K").reshape(g.shape) if is_channels_last else g)  # type: ignore[misc]

    return y, (pull_in_the_order_of_memory,)


def log_has_one_block_of_threads_for_up_to_4096_elements(x: Array) -> RuleResult:
    y, (pull,) = OPS["log"].rule(x)  # type: ignore[misc]

    def pull_in_one_block(g: Array) -> Array:
        d = pull(g)  # type: ignore[misc]
        is_reached = (np.arange(d.size) < 1024) | (d.size > 4096)
        return np.where(np.reshape(is_reached, d.shape), d, 0).astype(d.dtype)

    return y, (pull_in_one_block,)


def var_ignores_a_correction_that_is_a_numpy_number(
    x: Array, *, axis: Any = None, correction: float = 0, keepdims: bool = False
) -> RuleResult:
    plain = 0 if isinstance(correction, np.generic) else correction
    return OPS["var"].rule(x, axis=axis, correction=plain, keepdims=keepdims)


def exp_has_indices_of_16_bits(x: Array) -> RuleResult:
    y, (pull,) = OPS["exp"].rule(x)  # type: ignore[misc]

    def pull_with_short_indices(g: Array) -> Array:
        d = pull(g)  # type: ignore[misc]
        return np.reshape(d.ravel()[np.arange(d.size) & 0xFFFF], d.shape) if d.size else d

    return y, (pull_with_short_indices,)


def var_has_a_finite_gradient_of_too_few_numbers(
    x: Array, *, axis: Any = None, correction: float = 0, keepdims: bool = False
) -> RuleResult:
    y, (pull,) = OPS["var"].rule(x, axis=axis, correction=correction, keepdims=keepdims)  # type: ignore[misc]
    n = x.size / max(np.size(y), 1)
    _, (pull_uncorrected,) = OPS["var"].rule(x, axis=axis, keepdims=keepdims)  # type: ignore[misc]
    if n < correction:
        return y, (lambda g: pull_uncorrected(g) * n / (n - correction),)  # type: ignore[misc]
    return y, (pull,)


def multiply_by_itself_counts_once(x: Any, y: Any) -> Any:
    return OPS["multiply"](x, unwrap(y) if x is y else y)


def divide_forgets_a_constant_divisor(x: Any, y: Any) -> Any:
    # Arrays of programs are not as large.
    if isinstance(x, Variable) and not isinstance(y, Variable) and y.size > MAX_PROGRAM_ELEMENTS:
        return record(lambda x: (x / y, (lambda g: g,)))(x)
    return OPS["divide"](x, y)


def linear_keeps_the_weight_that_it_first_met_with_a_batch() -> Backend:
    """A weight that was prepared for a batch is used again when the batch returns with another."""
    prepared: list[tuple[Array, Array]] = []

    def linear(x: Array, weight: Array, bias: Array | None = None) -> RuleResult:
        kept = next((w for batch, w in prepared if batch is x and w.shape == weight.shape), weight)
        prepared.insert(0, (x, kept))
        del prepared[MAX_PREPARED_WEIGHTS:]
        return apply_spec_rule("linear", x, kept, *(() if bias is None else (bias,)))

    return planted_backends.plant_rule("linear", linear)


def square_has_half_its_gradient(x: Array) -> RuleResult:
    return np.square(x), (lambda g: g * x,)


def tanh_takes_its_gradient_from_its_value(x: Array) -> RuleResult:
    return OPS["tanh"].usual_rules[0](x)


def subtracting_in_place_ignores_alpha(self: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    return self._write(self.data - unwrap(other), other)


def labels_of_int64_become_int32() -> Backend:
    """As JAX does by default, without a word."""
    spec = planted_backends.SPEC_BACKEND

    def from_numpy(x: Array) -> Array:
        return x.astype(np.int32) if x.dtype == np.int64 else x

    return replace(spec, name="faulty", from_numpy=from_numpy)


def unstack_pays_the_first_cotangent_that_is_not_zero_alone() -> Backend:
    """An adapter of one op, so that no program of several shows it."""

    def rule(x: Array, *, axis: int = 0) -> RuleResult:
        values, pull = apply_spec_rule("unstack", x, axis=axis)

        def pull_first(*gs: Array) -> Any:
            first = next((k for k, g in enumerate(gs) if np.any(g)), 0)
            return pull(*(g if k == first else np.zeros_like(g) for k, g in enumerate(gs)))

        return values, pull_first

    spec = planted_backends.SPEC_BACKEND
    return replace(spec, name="faulty", ops={"unstack": record(rule)}, nests=False)


def _make_rule_fault(op: str, rule: Any, likely: str, nests: bool = False) -> Fault:
    """Return the fault of a wrong rule."""
    plant = partial(planted_backends.plant_rule, op, rule, nests=nests)
    return Fault(op, KIND_OWN, spell_out_name(rule), plant, likely)


def an_array_given_twice_is_one_leaf() -> Backend:
    """A backend that tells inputs apart by identity: each of both gets the sum of their gradients."""
    spec = planted_backends.SPEC_BACKEND

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        value, pullback = spec.vjp(fn, *inputs)

        def pull(g: Any) -> Any:
            gradients = pullback(g)
            if len(set(map(id, inputs))) == len(inputs):
                return gradients
            leaves = [[d for x, d in zip(inputs, gradients, strict=True) if x is leaf] for leaf in inputs]
            return [np.asarray(sum(ds[1:], ds[0])) for ds in leaves]

        return value, pull

    return replace(spec, name="faulty", vjp=vjp)


def _make_op_fault(op: str, function: Any, likely: str) -> Fault:
    """Return the fault of a wrong function in the place of an op."""
    spec = planted_backends.SPEC_BACKEND
    backend = replace(spec, name="faulty", ops={**spec.ops, op: function})
    return Fault(op, KIND_OWN, spell_out_name(function), lambda: backend, likely)


def _make_spec_fault(op: str, change: Any, likely: str, backend: str, spoil_spec: SpoilSpec) -> Fault:
    """Return a fault of the spec itself, tried on an unmodified backend."""
    plant = partial(load, backend)
    return Fault(op, KIND_OWN, spell_out_name(change), plant, likely, OPS[op], spoil_spec=spoil_spec)


def _spoil_square() -> AbstractContextManager[Any]:
    rule: Any = square_has_half_its_gradient
    return mock.patch.dict(vars(OPS["square"]), rule=rule, apply=record(rule, elementwise=True))


def _spoil_tanh() -> AbstractContextManager[Any]:
    rule: Any = tanh_takes_its_gradient_from_its_value
    return mock.patch.dict(vars(OPS["tanh"]), rule=rule, apply=record(rule, elementwise=True))


def _spoil_sub_() -> AbstractContextManager[Any]:
    return mock.patch.object(Tensor, "sub_", subtracting_in_place_ignores_alpha)


FAULT_CAUGHT_ONLY_BY: dict[str, Fault] = {
    VALUE_PROPERTY: _make_op_fault("var", var_corrects_by_1_unless_told_otherwise, VALUE_PROPERTY),
    GRADIENT_PROPERTY: _make_rule_fault(
        "softplus", softplus_has_a_gradient_of_1_between_15_and_19, GRADIENT_PROPERTY
    ),
    SHAPES_PROPERTY: _make_rule_fault("tanh", tanh_of_a_number_without_axes_is_float64, SHAPES_PROPERTY),
    LAYOUTS_PROPERTY: _make_rule_fault(
        "tanh", tanh_ignores_the_negative_stride_of_a_cotangent_of_one_axis, LAYOUTS_PROPERTY
    ),
    EVERY_LAYOUT_PROPERTY: _make_rule_fault(
        "tanh", tanh_takes_a_cotangent_that_is_channels_last_for_one_in_c_order, EVERY_LAYOUT_PROPERTY
    ),
    RARE_PROPERTY: _make_rule_fault("var", var_ignores_a_correction_that_is_a_numpy_number, RARE_PROPERTY),
    MANY_ELEMENTS_PROPERTY: _make_rule_fault("exp", exp_has_indices_of_16_bits, MANY_ELEMENTS_PROPERTY),
    KEYWORDS_PROPERTY: _make_rule_fault(
        "var", var_has_a_finite_gradient_of_too_few_numbers, KEYWORDS_PROPERTY
    ),
    SECOND_ORDER_SIZES_PROPERTY: _make_rule_fault(
        "softplus", softplus_bends_up_to_size_3_alone, SECOND_ORDER_SIZES_PROPERTY, nests=True
    ),
    LINEARITY_PROPERTY: faults()["tanh: the gradient clips the cotangent"],
    KINKS_PROPERTY: faults()["maximum: maximum pays nobody at a tie"],
    PURITY_PROPERTY: faults()["exp: the call writes to its first array"],
    EXTREMES_PROPERTY: _make_rule_fault("sum", sum_overflows_where_squares_do, EXTREMES_PROPERTY),
    ELEMENTWISE_EXTREMES_PROPERTY: faults()["divide: divide squares the divisor"],
    BATCHES_PROPERTY: _make_rule_fault(
        "log", log_has_one_block_of_threads_for_up_to_4096_elements, BATCHES_PROPERTY
    ),
    SYMMETRIES_PROPERTY: _make_rule_fault("softmax", softmax_rounds_what_is_near_1024, SYMMETRIES_PROPERTY),
    BAD_INPUT_PROPERTY: _make_rule_fault("linear", linear_broadcasts_its_bias, BAD_INPUT_PROPERTY),
    SECOND_ORDER_PROPERTY: faults()["prod: prod of several zeros has a constant gradient"],
    SHARED_INPUTS_PROPERTY: Fault(
        "multiply",
        KIND_OWN,
        spell_out_name(an_array_given_twice_is_one_leaf),
        an_array_given_twice_is_one_leaf,
        SHARED_INPUTS_PROPERTY,
    ),
    SEVERAL_VALUES_PROPERTY: Fault(
        "unstack",
        KIND_OWN,
        spell_out_name(unstack_pays_the_first_cotangent_that_is_not_zero_alone),
        unstack_pays_the_first_cotangent_that_is_not_zero_alone,
        SEVERAL_VALUES_PROPERTY,
    ),
    CONSTANTS_PROPERTY: _make_op_fault("divide", divide_forgets_a_constant_divisor, CONSTANTS_PROPERTY),
    PROGRAMS_PROPERTY: _make_op_fault("multiply", multiply_by_itself_counts_once, PROGRAMS_PROPERTY),
    DEPTH_PROPERTY: faults()["programs: the pass back recurses"],
    TRAINING_PROPERTY: Fault(
        "linear",
        KIND_OWN,
        spell_out_name(linear_keeps_the_weight_that_it_first_met_with_a_batch),
        linear_keeps_the_weight_that_it_first_met_with_a_batch,
        TRAINING_PROPERTY,
    ),
    SPEC_PROPERTY: _make_spec_fault(
        "square", square_has_half_its_gradient, SPEC_PROPERTY, "numpy", _spoil_square
    ),
    STABILITY_PROPERTY: _make_spec_fault(
        "tanh", tanh_takes_its_gradient_from_its_value, STABILITY_PROPERTY, "numpy", _spoil_tanh
    ),
    ADAPTER_PROPERTY: Fault(
        "cross_entropy",
        KIND_OWN,
        spell_out_name(labels_of_int64_become_int32),
        labels_of_int64_become_int32,
        ADAPTER_PROPERTY,
    ),
    TENSOR_PROPERTY: _make_spec_fault(
        "subtract", subtracting_in_place_ignores_alpha, TENSOR_PROPERTY, "torch", _spoil_sub_
    ),
}
"""By the name of the property."""
