"""The layer, verified in a test of its own."""

from my_ops import gaussian
from my_ops.backend import gaussian_formula

import gradspec


def test_gaussian() -> None:
    gradspec.verify(gaussian, gaussian_formula, dtypes=["float64", "float32"])
