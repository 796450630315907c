"""Arrays of no dimensions along axis 0 or -1: as in torch, they stay as they are."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gradspec.backends import Backend, Unavailable, load
from tests.backends.cupy.kernels_under_test import cupy_backends

REDUCTIONS = "sum", "mean", "max", "min", "prod", "logsumexp"
AXIS_OPS = {"squeeze": (2, 1), "flip": (2, 1), "softmax": (1, 0), "log_softmax": (0, 0)}
"""The value and the gradient at 2 by op, for a cotangent of 1."""

AXES = 0, -1, (0,), (-1,)
WRONG_AXES = 1, -2, (1,), (0, 0), (0, -1)


@pytest.fixture(params=["numpy", "torch", "cupy"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "cupy":  # on the fake CuPy
        composed: Backend = cupy_backends.composed()
        return composed
    try:
        return load(request.param)
    except Unavailable as error:
        pytest.skip(str(error))


def differentiate_at(x: float, g: float, backend: Backend, name: str, **keywords: Any) -> tuple[Any, Any]:
    inputs = backend.from_numpy(np.array(x))
    value, pullback = backend.vjp(lambda x: backend.ops[name](x, **keywords), inputs)
    (gradient,) = pullback(backend.from_numpy(np.full(value.shape, g)))
    return backend.to_numpy(value), backend.to_numpy(gradient)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_number_is_reduced_to_itself(backend: Backend, name: str, keepdims: bool, axis: Any) -> None:
    results = differentiate_at(2.0, 3.0, backend, name, axis=axis, keepdims=keepdims)
    for got, expected in zip(results, (2, 3), strict=True):
        assert got.shape == ()
        assert got == expected


@pytest.mark.parametrize("axis", AXES)
def test_the_variance_of_a_number_is_0(backend: Backend, axis: Any) -> None:
    assert_array_equal(differentiate_at(2.0, 3.0, backend, "var", axis=axis), (0, 0))


@pytest.mark.parametrize("name", AXIS_OPS)
@pytest.mark.parametrize("axis", [0, -1])
def test_an_op_along_an_axis_takes_a_number(backend: Backend, name: str, axis: int) -> None:
    assert_array_equal(differentiate_at(2.0, 1.0, backend, name, axis=axis), AXIS_OPS[name])


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("axis", [0, -1])
def test_the_place_of_the_extreme_of_a_number_is_0(backend: Backend, name: str, axis: int) -> None:
    x = backend.from_numpy(np.array(2.0))
    for keepdims in (False, True):
        assert_array_equal(backend.to_numpy(backend.ops[name](x, axis=axis, keepdims=keepdims)), 0)


@pytest.mark.parametrize("axis", WRONG_AXES)
@pytest.mark.parametrize("name", [*REDUCTIONS, "var", "flip", "squeeze"])
def test_a_number_has_no_other_axis(name: str, axis: Any) -> None:
    with pytest.raises((IndexError, ValueError), match=r"out of range|out of bounds|twice"):
        load("numpy").ops[name](np.array(2.0), axis=axis)


def test_second_derivatives_along_the_axis_of_a_number() -> None:
    spec = load("numpy")

    def slope(x: Any, name: str) -> Any:
        return spec.vjp(lambda x: spec.ops[name](x * x * x, axis=0), x)[1](np.array(1.0))[0]

    for name in REDUCTIONS:
        second = spec.vjp(lambda x, name=name: slope(x, name), np.array(2.0))[1](np.array(1.0))[0]
        assert second == pytest.approx(12), name
