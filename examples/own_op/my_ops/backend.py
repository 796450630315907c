"""What gradspec finds by the entry point: the op that the layer should be, and the layer as a backend."""

import numpy as np

import gradspec
from gradspec import Array, Real
from gradspec.backends import load
from my_ops.layer import gaussian


@gradspec.op("()->()", width=[2.0, 0.5])
def gaussian_formula(x: Real, *, width: float = 2.0) -> Array:
    """What it should be, in NumPy."""
    return np.exp(-((x / width) ** 2))


backend = load("torch").with_ops({gaussian_formula: gaussian}, name="my-ops", dtypes=["float64", "float32"])
