"""General faults of memory: the order it is read in, who writes to it, what is saved in it, who shares it."""

import itertools
from typing import Any

import numpy as np

from gradspec.reference import OPS, Op
from tests.faults import planted_backends
from tests.faults.fault import (
    LAYOUTS_PROPERTY,
    LINEARITY_PROPERTY,
    PURITY_PROPERTY,
    Array,
    GradientContext,
    Rule,
    RuleResult,
    apply_spec_rule,
)
from tests.faults.general import (
    GENERAL_FAULTS,
    GeneralFault,
    gradient_fault,
    misread_input_fault,
    never,
    vjp_fault,
)
from tests.faults.observed import may_return_the_cotangent, needs_its_inputs, saves_arrays

KIND_MEMORY, KIND_STATE = "memory", "state"

# The order in which memory is read


def read_in_the_order_of_memory(x: Array) -> Array:
    """Return x as read by a kernel that takes every array for contiguous."""
    return x.ravel(order="K").reshape(x.shape)


def read_with_all_strides_forwards(x: Array) -> Array:
    """Return x as read by a kernel that takes the size of each stride."""
    return x[tuple(slice(None, None, -1 if s < 0 else 1) for s in x.strides)]


def read_with_no_stride_of_zero(x: Array) -> Array:
    """Return x as read by a kernel that takes it for dense and reads past the end of its memory."""
    if 0 not in x.strides or not x.size:
        return x
    compact = x[tuple(slice(0, 1) if s == 0 else slice(None) for s in x.strides)].ravel()
    return np.append(compact, np.full(x.size - compact.size, np.nan, x.dtype)).reshape(x.shape)


def read_with_rows_side_by_side(x: Array) -> Array:
    """Return x as read by a kernel that looks at the strides within a row and not at the one between rows."""
    dense = np.empty(x.shape, x.dtype).strides
    whole = x.ndim > 1 and x.strides[1:] == dense[1:] and x.strides[0] > 0
    return np.lib.stride_tricks.as_strided(x, strides=dense, writeable=False) if whole else x


def of_writable_arrays_only(x: Array) -> Array:
    if not x.flags.writeable:
        raise ValueError("the buffer is read-only")
    return x


for read in (read_in_the_order_of_memory, read_with_all_strides_forwards, read_with_no_stride_of_zero):
    misread_input_fault(KIND_MEMORY, backward_applies_to=needs_its_inputs)(read)
misread_input_fault(KIND_MEMORY, backward_applies_to=never)(of_writable_arrays_only)


@gradient_fault(KIND_MEMORY, likely=LAYOUTS_PROPERTY)
def takes_the_cotangent_in_the_order_of_memory(c: GradientContext) -> Array:
    return c.pull(read_in_the_order_of_memory(c.g))


@gradient_fault(KIND_MEMORY, likely=LAYOUTS_PROPERTY)
def takes_the_cotangent_with_no_stride_of_zero(c: GradientContext) -> Array:
    return c.pull(read_with_no_stride_of_zero(c.g))


@gradient_fault(KIND_MEMORY, likely=LAYOUTS_PROPERTY)
def takes_the_cotangent_with_rows_side_by_side(c: GradientContext) -> Array:
    return c.pull(read_with_rows_side_by_side(c.g))


# Who writes to it


def overwrite(x: Array) -> None:
    if x.flags.writeable:
        x[...] = 1


def overwrite_and_return(result: Array, x: Array) -> Array:
    overwrite(x)
    return result


@vjp_fault(KIND_STATE)
def the_call_writes_to_its_first_array(inputs: Array, value: Array, pull: Array) -> Array:
    overwrite(inputs[0])
    return value, pull


@vjp_fault(KIND_STATE)
def the_pullback_writes_to_the_last_array(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: overwrite_and_return(pull(g), inputs[-1])


@vjp_fault(KIND_STATE)
def the_pullback_writes_to_the_cotangent(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: overwrite_and_return(pull(g), g)


# What is saved in it, and who shares it


@vjp_fault(KIND_STATE)
def the_pullback_gives_zeros_the_second_time(inputs: Array, value: Array, pull: Array) -> Array:
    calls = itertools.count()
    return value, lambda g: [d * (next(calls) < len(inputs)) for d in pull(g)]


@vjp_fault(KIND_STATE)
def the_pullback_adds_to_what_it_gave_before(inputs: Array, value: Array, pull: Array) -> Array:
    sums = [np.zeros_like(x) for x in inputs]

    def pull_and_add(g: Array) -> list[Array]:
        for total, d in zip(sums, pull(g), strict=True):
            total += d
        return [total.copy() for total in sums]

    return value, pull_and_add


@vjp_fault(KIND_STATE, likely=LINEARITY_PROPERTY)
def gradients_lie_in_one_buffer_for_all_calls(inputs: Array, value: Array, pull: Array) -> Array:
    buffers = [np.empty_like(x) for x in inputs]

    def pull_into_buffers(g: Array) -> list[Array]:
        for buffer, d in zip(buffers, pull(g), strict=True):
            buffer[...] = d
        return buffers

    return value, pull_into_buffers


_workspaces: dict[Any, Array] = {}


@vjp_fault(KIND_STATE, likely=PURITY_PROPERTY)
def gradients_of_one_shape_lie_in_one_workspace(inputs: Array, value: Array, pull: Array) -> Array:
    """Which two layers of a network share."""

    def pull_into_workspaces(g: Array) -> list[Array]:
        gradients = []
        for k, d in enumerate(pull(g)):
            workspace = _workspaces.setdefault((k, d.shape, d.dtype), np.empty_like(d))
            workspace[...] = d
            gradients.append(workspace)
        return gradients

    return value, pull_into_workspaces


@vjp_fault(KIND_STATE, applies_to=may_return_the_cotangent)
def a_gradient_is_the_memory_of_the_cotangent(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [g if d.shape == g.shape and np.array_equal(d, g) else d for d in pull(g)]


def has_several_gradients(op: Op) -> bool:
    return op.variadic or len(op.differentiable_arguments(len(op.arguments))) > 1


@vjp_fault(KIND_STATE, applies_to=has_several_gradients)
def gradients_are_parts_of_one_buffer(inputs: Array, value: Array, pull: Array) -> Array:
    def pull_into_one_buffer(g: Array) -> list[Array]:
        gradients = pull(g)
        buffer = np.empty(max(d.size for d in gradients), gradients[0].dtype)
        parts = [buffer[: d.size].reshape(d.shape) for d in gradients]
        for part, d in zip(parts, gradients, strict=True):
            part[...] = d
        return parts

    return value, pull_into_one_buffer


def make_rule_of_latest_call(op: str) -> Rule:
    """Return the spec's rule with one place for what it saves, whichever call it belongs to."""
    saved: dict[str, Any] = {}

    def rule(*xs: Array, **keywords: Array) -> RuleResult:
        y, pull = apply_spec_rule(op, *xs, **keywords)
        shapes = [x.shape for x in xs]
        saved["pull"], saved["shapes"] = pull, shapes

        def pull_latest(*gs: Array) -> Any:
            return (saved["pull"] if saved["shapes"] == shapes else pull)(*gs)

        return y, pull_latest

    return rule


GENERAL_FAULTS.append(
    GeneralFault(
        KIND_STATE,
        "the pullback uses what the latest call saved",
        lambda op, _: planted_backends.plant_rule(op, make_rule_of_latest_call(op)),
        saves_arrays,
        likely=PURITY_PROPERTY,
    )
)
GENERAL_FAULTS.append(
    GeneralFault(
        KIND_STATE,
        "what is overwritten before the pullback is not noticed",
        lambda op, _: planted_backends.plant_rule_on_bare_engine(op, OPS[op].rule),
        lambda op: saves_arrays(op) and op.picked is None,  # an engine of one value
        likely=PURITY_PROPERTY,
    )
)
