"""The kernels verified, where there is a GPU."""

import numpy as np
import pytest

import gradspec
from gradspec import Array, Real

cupy = pytest.importorskip("cupy", reason="pip install cupy-cuda13x nvidia-cuda-nvrtc")
if not cupy.is_available():
    pytest.skip("there is no GPU", allow_module_level=True)

from cupy_rms_norm import rms_norm  # noqa: E402


def rms_norm_formula(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
    """What it should be."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def test_rms_norm() -> None:
    gradspec.verify(
        rms_norm,
        rms_norm_formula,
        shapes="(*b,n),(n)->(*b,n)",
        backend="cupy",
        dtypes=["float32"],
        nests=False,
    )
