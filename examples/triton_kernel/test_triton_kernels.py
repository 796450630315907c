"""The kernels verified: on a GPU if there is one, else in Triton's interpreter (see conftest.py)."""

import numpy as np
import pytest
import torch

import gradspec
from gradspec import Array, Real

pytest.importorskip("triton", reason="pip install triton: there are wheels for Linux")

from triton_rms_norm import rms_norm
from triton_silu import Silu

BACKEND = "torch:cuda" if torch.cuda.is_available() else "torch"


def rms_norm_formula(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
    """What it should be."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def test_rms_norm() -> None:
    gradspec.verify(
        rms_norm,
        rms_norm_formula,
        shapes="(*b,n),(n)->(*b,n)",
        backend=BACKEND,
        dtypes=["float32", "bfloat16", "float16"],
        nests=False,
    )


def test_the_stride_bug_of_silu_is_found() -> None:
    with pytest.raises(AssertionError, match="breaks a law: layout makes no difference"):
        gradspec.verify(Silu.apply, "silu", backend=BACKEND, dtypes=["float32"], nests=False)
