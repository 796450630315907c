"""Their tests: a line each."""

from collections.abc import Callable

import my_kernels
import numpy as np

import gradspec
from gradspec import Array, Real


@gradspec.op("(*b,n),(n)->(*b,n)", eps=[1e-6, 1e-2])
def rms_norm(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
    """What it should be, as an op: in as many tests as you like."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def geglu(x: Real, gate: Real) -> Array:
    """What it should be, as a formula: `shapes` goes with it."""
    return x * gate / (1 + np.exp(-gate))


def test_silu() -> None:
    gradspec.verify(my_kernels.Silu.apply, "silu")


def test_rms_norm() -> None:
    gradspec.verify(my_kernels.rms_norm, rms_norm, nests=False)


def test_geglu() -> None:
    gradspec.verify(my_kernels.geglu, geglu, shapes="(*b,n),(*b,n)->(*b,n)", dtypes=["float64", "float32"])


@gradspec.parametrize({"silu": my_kernels.Silu.apply, rms_norm: my_kernels.rms_norm}, nests=False)
def test_each_law(law: Callable[[], object]) -> None:
    """One test for each op and law."""
    law()
