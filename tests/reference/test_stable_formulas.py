"""Results that usual formulas lose to rounding, compared with mpmath."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradspec.reference import OPS, vjp
from gradspec.reference.erf import erfc

mp: Any = pytest.importorskip("mpmath").mp.clone()
mp.prec = 160


def differentiate(name: str, x: Any, dtype: Any = np.float64, g: Any = 1, **keywords: Any) -> Any:
    """Return value and gradient of an op of one argument."""
    x = np.asarray(x, dtype)
    value, pullback = vjp(lambda x: OPS[name](x, **keywords), x)
    (gradient,) = pullback(np.broadcast_to(np.asarray(g, dtype), np.shape(value)))
    return value, gradient


def to_mpf(x: Any) -> Any:
    """Return a number of any dtype to all its digits."""
    mantissa, exponent = np.frexp(np.asarray(x, np.longdouble))
    return mp.mpf(int(mantissa * np.longdouble(2) ** 64)) * mp.mpf(2) ** (int(exponent) - 64)


def relative_error(got: Any, expected: Any) -> float:
    return float(abs(to_mpf(got) / expected - 1))


def logistic(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def normal(x: Any) -> Any:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def gelu_by_tanh(x: Any) -> Any:
    return x * logistic(2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf(0.044715) * x**3))


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "tanh": (mp.tanh, {}),
    "expm1": (mp.expm1, {}),
    "sigmoid": (logistic, {}),
    "silu": (lambda x: x * logistic(x), {}),
    "softplus": (lambda x: mp.log1p(mp.exp(x)), {}),
    "gelu": (lambda x: x * normal(x), {}),
    "gelu tanh": (gelu_by_tanh, {"approximate": "tanh"}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("x", [-40, -20, -10, -4, -1.5, -0.0625, 0.0625, 1.5, 4, 20])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_right_where_they_are_flat(name: str, x: float, dtype: Any) -> None:
    function, keywords = FUNCTIONS[name]
    expected = function(mp.mpf(x)), mp.diff(function, mp.mpf(x))
    # exp(y) is off by y units where y is; gelu has the exponential of a cube.
    units = 64 + 4 * abs(x) ** (3 if "tanh" in name and "gelu" in name else 2 if name == "gelu" else 1)
    for got, right in zip(differentiate(name.split()[0], x, dtype, **keywords), expected, strict=True):
        if abs(right) > float(np.finfo(dtype).tiny):
            assert relative_error(got, right) < units * np.finfo(dtype).eps


def test_tanh_is_not_flat_at_20() -> None:
    assert relative_error(differentiate("tanh", 20)[1], mp.sech(20) ** 2) < 4e-16


def test_expm1_is_not_flat_at_minus_40() -> None:
    assert relative_error(differentiate("expm1", -40)[1], mp.exp(-40)) < 4e-16


def test_sigmoid_is_not_flat_at_10_in_bfloat16() -> None:
    slope = logistic(10) * logistic(-10)
    assert relative_error(differentiate("sigmoid", 10, ml_dtypes.bfloat16)[1], slope) < 4 * 2**-8


def test_gelu_at_minus_10_has_all_digits_of_longdouble() -> None:
    value, gradient = differentiate("gelu", -10, np.longdouble)
    eps = np.finfo(np.longdouble).eps
    assert relative_error(value, -10 * normal(mp.mpf(-10))) < 64 * eps
    assert relative_error(gradient, normal(mp.mpf(-10)) - 10 * mp.npdf(-10)) < 64 * eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_erfc_is_right_where_it_is_tiny(dtype: Any) -> None:
    xs = np.concatenate([np.linspace(-7, 7, 57), [0.49, 0.51, 8.8, 9.1, 12, 26]]).astype(dtype)
    xs = xs[xs < (9 if dtype is np.float32 else 27)]
    ys = erfc(xs)
    assert ys.dtype == dtype
    for x, y in zip(xs, ys, strict=True):
        assert relative_error(y, mp.erfc(to_mpf(x))) < 8 * np.finfo(dtype).eps


def test_erfc_takes_arrays_of_bfloat16() -> None:
    xs = np.array([0.5, 3], ml_dtypes.bfloat16)
    np.testing.assert_array_equal(erfc(xs), erfc(xs.astype(np.float64)).astype(ml_dtypes.bfloat16))


def test_erfc_at_the_ends() -> None:
    for dtype in (np.float64, np.longdouble):
        ends = np.array([np.inf, -np.inf, np.nan, 0, -0.0, 1e4, -1e4], dtype)
        np.testing.assert_array_equal(erfc(ends), [0, 2, np.nan, 1, 1, 0, 2])


def test_the_second_derivative_of_erfc_is_that_of_its_formula() -> None:
    _, pullback = vjp(lambda x: vjp(erfc, x)[1](np.ones(1))[0], np.array([0.75]))
    x = mp.mpf(0.75)
    assert relative_error(pullback(np.ones(1))[0][0], 4 * x * mp.exp(-x * x) / mp.sqrt(mp.pi)) < 1e-15


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_cross_entropy_of_a_target_that_prevails(dtype: Any) -> None:
    x, target = np.array([12.0, 0.0], dtype), np.array(0)
    value, pullback = vjp(lambda x: OPS["cross_entropy"](x, target), x)
    (gradient,) = pullback(np.ones((), dtype))
    eps = 32 * float(ml_dtypes.finfo(dtype).eps)
    expected = logistic(mp.mpf(-12))  # 6.1e-6
    assert relative_error(gradient[0], -expected) < eps
    assert relative_error(gradient[1], expected) < eps
    assert relative_error(value, mp.log1p(mp.exp(-12))) < eps


def test_softmax_where_one_class_prevails() -> None:
    x, g = [40.0, 0.0, 1.0], [1.0, 3.0, -0.5]
    _, gradient = differentiate("softmax", x, g=g)
    e = [mp.exp(z) for z in x]
    y = [z / mp.fsum(e) for z in e]
    mean = mp.fsum(a * b for a, b in zip(y, g, strict=True))
    for got, share, cotangent in zip(gradient, y, g, strict=True):
        assert relative_error(got, share * (cotangent - mean)) < 100 * 2.3e-16


@pytest.mark.parametrize("g", [[1.0, 3.0, -0.5], [1.0, 0.0, 0.0]])
def test_log_softmax_where_one_class_prevails(g: list[float]) -> None:
    x = [40.0, 0.0, 1.0]
    value, gradient = differentiate("log_softmax", x, g=g)
    total = mp.fsum(mp.exp(z) for z in x)
    for got, z in zip(value, x, strict=True):
        assert relative_error(got, z - mp.log(total)) < 100 * 2.3e-16
    for got, z, cotangent in zip(gradient, x, g, strict=True):
        assert relative_error(got, cotangent - mp.exp(z) / total * mp.fsum(g)) < 100 * 2.3e-16


def test_logsumexp_is_right_near_0_and_far_from_it() -> None:
    value, _ = differentiate("logsumexp", [1e-3, -40.0])
    assert relative_error(value, mp.log(mp.exp(mp.mpf(1e-3)) + mp.exp(-40))) < 4e-16
    assert float(differentiate("logsumexp", [-0.0])[0]) == 0
    _, gradient = differentiate("logsumexp", [1e8, 1e8 - 1])
    assert relative_error(gradient[1], logistic(mp.mpf(-1))) < 4e-16


def test_var_of_one_element_is_0_however_division_rounds() -> None:
    value, gradient = differentiate("var", [0.1, 0.3], axis=(), correction=0)
    np.testing.assert_array_equal(value, [0, 0])
    np.testing.assert_array_equal(gradient, [0, 0])
