"""General faults of dtype and precision: widened, narrowed, computed in less than it should be."""

import numpy as np

from faults.by_memory import needs_its_inputs
from faults.fault import GRADIENT, SHAPES, Array, Call, Pull
from faults.general import gradient, never, seen_as, value, vjp

DTYPE, PRECISION = "dtype", "precision"
NARROWER = {"float64": np.float32, "float32": np.float16}

MOVING = {"reshape", "permute_dims", "matrix_transpose", "expand_dims", "squeeze", "broadcast_to", "flip", "concat",
          "stack", "getitem"}  # fmt: skip
"""Ops that compute nothing."""


def narrowed(x: Array) -> Array:
    """X rounded to the next narrower dtype."""
    return x.astype(NARROWER[str(x.dtype)]).astype(x.dtype) if str(x.dtype) in NARROWER else x


@vjp(DTYPE, likely=SHAPES)
def gradients_of_float32_are_float64(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [d.astype(np.float64) for d in pull(g)]


@vjp(DTYPE, likely=SHAPES)
def gradients_of_float64_are_float32(inputs: Array, value: Array, pull: Array) -> Array:
    return value, lambda g: [d.astype(np.float32) for d in pull(g)]


@value(DTYPE, likely=SHAPES)
def is_always_float64(c: Call) -> Array:
    return c.y.astype(np.float64)


@gradient(PRECISION)
def is_rounded_to_the_next_narrower_dtype(p: Pull) -> Array:
    return narrowed(p.d)


@value(PRECISION, when=lambda op: op.differentiable)
def is_rounded_to_the_next_narrower_dtype_(c: Call) -> Array:
    return narrowed(c.y)


@seen_as(PRECISION, needed=needs_its_inputs, forward=never, likely=GRADIENT)
def of_rounded_arrays(x: Array) -> Array:
    return narrowed(x)
