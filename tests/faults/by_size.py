"""General faults of sign and size, of the cotangent, and of one argument taken for another."""

import numpy as np

from gradspec.reference import Op
from tests.faults.fault import LINEARITY_PROPERTY, VALUE_PROPERTY, Array, CallContext, GradientContext
from tests.faults.general import gradient_fault, value_fault

KIND_SIZE, KIND_COTANGENT, KIND_ARGUMENTS = "size", "cotangent", "arguments"
SLIGHT_RELATIVE_ERROR = 1e-4  # more than float32 loses in most ops, less than anyone would see in a plot


def has_several_gradients(op: Op) -> bool:
    return not op.variadic and len(op.differentiable_arguments(len(op.arguments))) > 1


def has_different_gradients(op: Op) -> bool:
    return has_several_gradients(op) and op.name != "add"


@gradient_fault(KIND_SIZE)
def is_negated(p: GradientContext) -> Array:
    return -p.gradient


@gradient_fault(KIND_SIZE)
def is_doubled(p: GradientContext) -> Array:
    return p.scale(2)


@gradient_fault(KIND_SIZE, for_each_argument=True)
def is_slightly_too_large(p: GradientContext) -> Array:
    return p.scale(1 + SLIGHT_RELATIVE_ERROR)


@gradient_fault(KIND_SIZE, for_each_argument=True)
def is_zero(p: GradientContext) -> Array:
    return np.zeros_like(p.x)


@gradient_fault(KIND_COTANGENT)
def ignores_the_cotangent(p: GradientContext) -> Array:
    return p.pull(np.ones_like(p.g))


@gradient_fault(KIND_COTANGENT)
def applies_the_cotangent_twice(p: GradientContext) -> Array:
    return p.pull(p.g * p.g)


@gradient_fault(KIND_COTANGENT)
def takes_the_size_of_the_cotangent(p: GradientContext) -> Array:
    return p.pull(np.abs(p.g))


@gradient_fault(KIND_COTANGENT)
def takes_the_mean_of_the_cotangent(p: GradientContext) -> Array:
    return p.pull(np.full_like(p.g, np.mean(p.g) if p.g.size else 0))


@gradient_fault(KIND_COTANGENT, likely=LINEARITY_PROPERTY)
def clips_the_cotangent(p: GradientContext) -> Array:
    return p.pull(np.clip(p.g, -1e4, 1e4))


@gradient_fault(KIND_COTANGENT, likely=LINEARITY_PROPERTY)
def drops_small_cotangents(p: GradientContext) -> Array:
    return p.pull(np.where(np.abs(p.g) < 1e-5, 0, p.g).astype(p.g.dtype))


@gradient_fault(KIND_ARGUMENTS, for_each_argument=True, applies_to=has_different_gradients)
def is_that_of_another_argument(p: GradientContext) -> Array:
    others = [d for j, d in enumerate(p.pull_all(p.g)) if j != p.i and d is not None]
    return next((d for d in others if d.shape == p.unsummed_gradient.shape), p.unsummed_gradient)


@gradient_fault(KIND_ARGUMENTS, applies_to=has_several_gradients)
def is_right_only_where_the_shapes_are_equal(p: GradientContext) -> Array:
    return p.gradient if all(x.shape == p.x.shape for x in p.xs) else p.scale(0.5)


@value_fault(KIND_SIZE)
def value_is_inverted(c: CallContext) -> Array:
    return ~c.y if c.y.dtype.kind in "bi" else -c.y


@value_fault(KIND_SIZE, applies_to=lambda op: op.differentiable, likely=VALUE_PROPERTY)
def value_is_slightly_too_large(c: CallContext) -> Array:
    return (c.y * (1 + SLIGHT_RELATIVE_ERROR)).astype(c.y.dtype)
