"""General faults of sign and size, of the cotangent, and of arguments confused with each other."""

import numpy as np

from gradspec.reference import Op
from tests.faults.fault import LINEARITY_PROPERTY, VALUE_PROPERTY, Array, CallContext, GradientContext
from tests.faults.general import gradient_fault, value_fault
from tests.faults.observed import has_different_gradients

KIND_SIZE, KIND_COTANGENT, KIND_ARGUMENTS = "size", "cotangent", "arguments"
SLIGHT_RELATIVE_ERROR = 1e-4  # more than float32 loses in most ops, less than a plot would show


def has_several_gradients(op: Op) -> bool:
    return not op.variadic and len(op.differentiable_arguments(len(op.arguments))) > 1


def have_different_gradients(op: Op) -> bool:
    return has_several_gradients(op) and has_different_gradients(op)


@gradient_fault(KIND_SIZE)
def is_negated(c: GradientContext) -> Array:
    return -c.gradient


@gradient_fault(KIND_SIZE)
def is_doubled(c: GradientContext) -> Array:
    return c.scale(2)


@gradient_fault(KIND_SIZE, for_each_argument=True)
def is_slightly_too_large(c: GradientContext) -> Array:
    return c.scale(1 + SLIGHT_RELATIVE_ERROR)


@gradient_fault(KIND_SIZE, for_each_argument=True)
def is_zero(c: GradientContext) -> Array:
    return np.zeros_like(c.x)


@gradient_fault(KIND_COTANGENT)
def ignores_the_cotangent(c: GradientContext) -> Array:
    return c.pull(np.ones_like(c.g))


@gradient_fault(KIND_COTANGENT)
def applies_the_cotangent_twice(c: GradientContext) -> Array:
    return c.pull(c.g * c.g)


@gradient_fault(KIND_COTANGENT)
def takes_the_size_of_the_cotangent(c: GradientContext) -> Array:
    return c.pull(np.abs(c.g))


@gradient_fault(KIND_COTANGENT)
def takes_the_mean_of_the_cotangent(c: GradientContext) -> Array:
    return c.pull(np.full_like(c.g, np.mean(c.g) if c.g.size else 0))


@gradient_fault(KIND_COTANGENT, likely=LINEARITY_PROPERTY)
def clips_the_cotangent(c: GradientContext) -> Array:
    return c.pull(np.clip(c.g, -1e4, 1e4))


@gradient_fault(KIND_COTANGENT, likely=LINEARITY_PROPERTY)
def drops_small_cotangents(c: GradientContext) -> Array:
    return c.pull(np.where(np.abs(c.g) < 1e-5, 0, c.g).astype(c.g.dtype))


@gradient_fault(KIND_ARGUMENTS, for_each_argument=True, applies_to=have_different_gradients)
def is_that_of_another_argument(c: GradientContext) -> Array:
    others = [d for j, d in enumerate(c.pull_all(c.g)) if j != c.i and d is not None]
    return next((d for d in others if d.shape == c.unsummed_gradient.shape), c.unsummed_gradient)


@gradient_fault(KIND_ARGUMENTS, applies_to=has_several_gradients)
def is_right_only_where_the_shapes_are_equal(c: GradientContext) -> Array:
    return c.gradient if all(x.shape == c.x.shape for x in c.xs) else c.scale(0.5)


@value_fault(KIND_SIZE)
def value_is_inverted(c: CallContext) -> Array:
    return ~c.y if c.y.dtype.kind in "bi" else -c.y


@value_fault(KIND_SIZE, applies_to=lambda op: op.differentiable, likely=VALUE_PROPERTY)
def value_is_slightly_too_large(c: CallContext) -> Array:
    return (c.y * (1 + SLIGHT_RELATIVE_ERROR)).astype(c.y.dtype)
