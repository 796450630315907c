"""General faults of dtype and precision: results widened, narrowed, or computed with too little precision."""

import numpy as np

from tests.faults.fault import GRADIENT_PROPERTY, SHAPES_PROPERTY, Array, CallContext, GradientContext
from tests.faults.general import gradient_fault, misread_input_fault, never, value_fault, vjp_fault
from tests.faults.observed import needs_its_inputs

KIND_DTYPE, KIND_PRECISION = "dtype", "precision"
NEXT_NARROWER_DTYPE = {"float64": np.float32, "float32": np.float16}


def round_to_narrower(x: Array) -> Array:
    """Return x rounded to the next narrower dtype, if there is one, in its own dtype."""
    narrower = NEXT_NARROWER_DTYPE.get(str(x.dtype))
    return x if narrower is None else x.astype(narrower).astype(x.dtype)


@vjp_fault(KIND_DTYPE, likely=SHAPES_PROPERTY)
def gradients_of_float32_are_float64(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [d.astype(np.float64) for d in pull(g)]


@vjp_fault(KIND_DTYPE, likely=SHAPES_PROPERTY)
def gradients_of_float64_are_float32(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [d.astype(np.float32) for d in pull(g)]


@value_fault(KIND_DTYPE, likely=SHAPES_PROPERTY)
def value_is_always_float64(c: CallContext) -> Array:
    return c.y.astype(np.float64)


@gradient_fault(KIND_PRECISION)
def is_rounded_to_the_next_narrower_dtype(c: GradientContext) -> Array:
    return round_to_narrower(c.gradient)


@value_fault(KIND_PRECISION, applies_to=lambda op: op.differentiable)
def value_is_rounded_to_the_next_narrower_dtype(c: CallContext) -> Array:
    return round_to_narrower(c.y)


@misread_input_fault(
    KIND_PRECISION, backward_applies_to=needs_its_inputs, forward_applies_to=never, likely=GRADIENT_PROPERTY
)
def of_rounded_arrays(x: Array) -> Array:
    return round_to_narrower(x)
