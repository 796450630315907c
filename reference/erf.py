"""The error functions, which NumPy lacks, for every floating-point type."""

import math
from typing import Any

import numpy as np

from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array

_erf_of_doubles = np.frompyfunc(math.erf, 1, 1)
_erfc_of_doubles = np.frompyfunc(math.erfc, 1, 1)


@record
def erf(x: Array) -> VJP:
    """Return 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return _compute_erf(x), (lambda g: g * _slope(x),)


@record
def erfc(x: Array) -> VJP:
    """Return 1 - erf(x), 2/sqrt(pi) times the integral from x on, to all digits where it is small."""
    return _compute_erfc(x), (lambda g: -g * _slope(x),)


def pi(dtype: Any) -> Any:
    """Return pi to the precision of the dtype."""
    return np.arccos(np.dtype(dtype).type(-1))


@record
def _compute_erf(x: Array) -> VJP:
    return _erf_by_series(x) if _is_wide(x) else np.asanyarray(_erf_of_doubles(x)).astype(x.dtype), None


@record
def _compute_erfc(x: Array) -> VJP:
    return _erfc_of_wide(x) if _is_wide(x) else np.asanyarray(_erfc_of_doubles(x)).astype(x.dtype), None


def _slope(x: Array) -> Array:
    return np.exp(-x * x) * 2 / np.sqrt(pi(x.dtype))


def _is_wide(x: Array) -> bool:
    """Return whether Python's floats have fewer digits than x."""
    return x.dtype == np.longdouble and np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant


def _erf_by_series(x: Array) -> Array:
    """Return 2/sqrt(pi) exp(-x^2) x sum_n (2 x^2)^n / (1 3 5 ... (2n+1)).

    Its terms do not cancel (DLMF 7.6.2).
    """
    # At 9 the error function differs from 1 by 4e-37.
    near = np.where(np.abs(x) < 9, x, 0)
    term = total = np.ones_like(near)
    n = 0
    while np.any(term > np.finfo(x.dtype).eps * total):
        n += 1
        term = term * (2 * near * near) / (2 * n + 1)
        total = total + term
    series = total * near * np.exp(-near * near) * 2 / np.sqrt(pi(x.dtype))
    return np.where(near == x, series, np.where(np.isnan(x), x, np.sign(x)))


def _erfc_of_wide(x: Array) -> Array:
    """Return erfc(x): 1 - erf(x) where that cancels at most one bit, else by the trapezoidal rule."""
    is_tail = x > 0.5
    tail = _erfc_by_trapezoidal_rule(np.where(is_tail & np.isfinite(x), x, 1))
    return np.where(is_tail, np.where(x == np.inf, 0, tail), 1 - _erf_by_series(np.where(is_tail, 0, x)))


def _erfc_by_trapezoidal_rule(x: Array) -> Array:
    """Return h x/pi exp(-x^2) (1/x^2 + 2 sum_k exp(-(kh)^2) / ((kh)^2 + x^2)) - 2 / (exp(2 pi x/h) - 1).

    This is the trapezoidal rule for an integral over the whole line. The last term, for x < pi/h, is the
    residue of a pole; then only exp(-(pi/h)^2) of the result is missing (Hunter and Regan, Mathematics of
    Computation 26, 1972). No terms cancel from 1/2 on.
    """
    eps, pi_ = np.finfo(x.dtype).eps, pi(x.dtype)
    reach = np.sqrt(-np.log(eps)) + 1  # exp(-reach^2) is less than eps
    h = pi_ / reach
    total = 1 / (x * x)
    for k in range(1, int(reach / h) + 1):
        total = total + 2 * np.exp(-((k * h) ** 2)) / ((k * h) ** 2 + x * x)
    # exp(-x^2) to all digits: the square of few digits of x is exact.
    short = np.round(x * 16) / 16
    gauss = np.exp(-short * short) * np.exp((short - x) * (short + x))
    pole = np.where(x < reach, 2 / np.expm1(2 * reach * np.where(x < reach, x, 1)), 0)
    return h * x / pi_ * gauss * total - pole
