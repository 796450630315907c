"""Samples of a formula: its outcome as it is, and with every operation off by a unit in the last place."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import ml_dtypes
import numpy as np

from gradspec.properties.cases.case import dtype_of
from gradspec.properties.judging.jitter import JitteredArray, JitterSource, use_jitter
from gradspec.properties.judging.quick_jitter import QuickJitterSource
from gradspec.reference.rule import Array

OVERFLOW_HEADROOM = 256  # within this factor of overflow, another order of operations may overflow

T = TypeVar("T")
ConvertToPrecision = Callable[[Array], Array]
Compute = Callable[[ConvertToPrecision], T]
"""A computation; its argument is applied to each array of floats that it starts from."""


class FormulaSamples(Generic[T]):
    """The outcomes of one formula at the precision of a dtype, computed when first needed, and once."""

    def __init__(self, dtype: str, compute: Compute[T]) -> None:
        self.dtype, self.compute = dtype, compute
        self._samples: list[T] = []
        self._all_ordinary = True
        # The largest and the smallest number that the jittered copies met on their way.
        self._peak, self._trough = 0.0, np.inf

    def compute_samples(self, copies: int) -> list[T]:
        """Return outcomes at the precision of the dtype: the plain one, then those of the jittered copies."""
        while len(self._samples) <= copies:
            sample, rounding = self._compute_sample(seed=len(self._samples))
            self._samples.append(sample)
            self._peak = max(self._peak, rounding.peak)
            self._trough = min(self._trough, rounding.trough)
        return self._samples[: copies + 1]

    def _compute_sample(self, seed: int) -> tuple[T, JitterSource]:
        """Return the plain outcome (seed 0) or a jittered one, and what rounded it."""
        if seed and self._all_ordinary:
            quick = QuickJitterSource(dtype_of(self.dtype), seed)
            sample = _compute_at_precision(self.compute, quick, jittered=True)
            self._all_ordinary = quick.look_at_numbers()
            if self._all_ordinary:
                return sample, quick
        rounding = JitterSource(dtype_of(self.dtype), seed)
        return _compute_at_precision(self.compute, rounding, jittered=seed > 0), rounding

    @property
    def peak(self) -> float:
        """The largest number that the copies so far met."""
        return self._peak

    @property
    def near_overflow(self) -> bool:
        """Whether the copies so far met numbers so large that another order of operations may overflow."""
        return OVERFLOW_HEADROOM * self.peak > float(ml_dtypes.finfo(dtype_of(self.dtype)).max)

    @property
    def relative_underflow_error(self) -> float:
        """The share of a number that is lost if it passes through the smallest one the copies so far met."""
        info = ml_dtypes.finfo(dtype_of(self.dtype))
        return float(info.smallest_subnormal) / self._trough if self._trough < info.smallest_normal else 0.0

    def measure_noise(self, part: Callable[[T], Array], exact: Array, copies: int) -> Array:
        """Return, for each element, how far from `exact` the samples of so many jittered copies get.

        Args:
            part: What to take of an outcome.
            exact: That part in higher precision.
            copies: How many jittered copies to look at, besides the plain run.
        """
        with np.errstate(all="ignore"):
            rounded = [_cast(part(s), dtype_of(self.dtype)) for s in self.compute_samples(copies)]
            return np.max([np.abs(r.astype(exact.dtype) - exact) for r in rounded], axis=0)


def compute_quietly(compute: Compute[T], convert: ConvertToPrecision) -> T:
    """Return compute(convert) without NumPy's warnings: overflow and 0/0 are part of the answer here."""
    with np.errstate(all="ignore"):
        return compute(convert)


def _compute_at_precision(compute: Compute[T], rounding: JitterSource, jittered: bool) -> T:
    """Return the outcome at the precision of a source of jitter, plain or jittered.

    16-bit floats are computed in float32 and rounded at the end: once, apart from the jitter.
    """

    def convert(x: Array) -> Array:
        x = x.astype(rounding.compute_dtype)
        return rounding.jitter(x).view(JitteredArray) if jittered else x

    with use_jitter(rounding):
        return compute_quietly(compute, convert)


def _cast(x: Array, dtype: np.dtype[Any]) -> Array:
    return x if x.dtype.kind in "biu" else np.asarray(x).view(np.ndarray).astype(dtype)
