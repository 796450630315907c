"""Samples of a formula: its outcome as it is, and with every operation off by a unit in the last place."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from gradspec.properties.cases.case import dtype_of, exact_dtype
from gradspec.properties.judging.jitter import JitteredArray, JitterSource, get_limits, use_jitter
from gradspec.properties.judging.quick_jitter import QuickJitterSource
from gradspec.reference.rule import Array

OVERFLOW_HEADROOM = 256  # within this factor of overflow, another order of operations may overflow

T = TypeVar("T")
ConvertToPrecision = Callable[[Array], Array]
Compute = Callable[[ConvertToPrecision], T]
"""A computation; its argument is applied to each array of floats that it starts from."""


class Sample(NamedTuple, Generic[T]):
    """An outcome, the largest number that was met on the way to it, and the smallest that is not zero."""

    outcome: T
    peak: float
    trough: float


class Sampler(Generic[T]):
    """Makes samples of one formula at the precision of a dtype, each when first needed, and once."""

    def __init__(self, dtype: str, compute: Compute[T]) -> None:
        self.dtype, self.compute = dtype, compute
        self._samples: list[Sample[T]] = []
        self._all_ordinary = True

    def make_samples(self, n: int) -> list[Sample[T]]:
        """Return the first n samples: the plain one, then those of jittered copies."""
        while len(self._samples) < n:
            self._samples.append(self._make_sample(seed=len(self._samples)))
        return self._samples[:n]

    def _make_sample(self, seed: int) -> Sample[T]:
        """Return the plain outcome (seed 0) or a jittered one, and how large and small its numbers got."""
        if seed and self._all_ordinary:
            quick = QuickJitterSource(dtype_of(self.dtype), seed)
            outcome = _compute_at_precision(self.compute, quick, jittered=True)
            self._all_ordinary = quick.look_at_numbers()
            if self._all_ordinary:
                return Sample(outcome, quick.peak, quick.trough)
        rounding = JitterSource(dtype_of(self.dtype), seed)
        outcome = _compute_at_precision(self.compute, rounding, jittered=seed > 0)
        return Sample(outcome, rounding.peak, rounding.trough)


class Formulas(Generic[T]):
    """A computation by the spec's formula and by usual ones: its exact outcome, and samples of each formula.

    Depends on nothing but the computation: judges of the same one may share it.
    """

    def __init__(self, dtype: str, compute: Compute[T], usual: Sequence[Compute[T]]) -> None:
        self.dtype, self.compute = dtype, compute
        self.sampler = Sampler(dtype, compute)
        self.usual_samplers = [Sampler(dtype, usual_compute) for usual_compute in usual]

    @cached_property
    def exact(self) -> T:
        """The outcome in higher precision."""
        return compute_quietly(self.compute, lambda x: x.astype(exact_dtype(self.dtype)))


class FormulaSamples(Generic[T]):
    """The samples of one formula that one judge has asked for; the sampler may be shared."""

    def __init__(self, sampler: Sampler[T]) -> None:
        self.sampler, self.dtype = sampler, sampler.dtype
        self._samples: list[Sample[T]] = []

    def compute_samples(self, copies: int) -> list[T]:
        """Return outcomes at the precision of the dtype: the plain one, then those of the jittered copies."""
        if len(self._samples) <= copies:
            self._samples = self.sampler.make_samples(copies + 1)
        return [sample.outcome for sample in self._samples[: copies + 1]]

    @property
    def peak(self) -> float:
        """The largest number that the copies so far met."""
        return max((sample.peak for sample in self._samples), default=0.0)

    @property
    def trough(self) -> float:
        """The smallest number that is not zero and that the copies so far met."""
        return min((sample.trough for sample in self._samples), default=np.inf)

    @property
    def near_overflow(self) -> bool:
        """Whether the copies so far met numbers so large that another order of operations may overflow."""
        return OVERFLOW_HEADROOM * self.peak > get_limits(dtype_of(self.dtype)).largest

    @property
    def relative_underflow_error(self) -> float:
        """The share of a number that is lost if it passes through the smallest one the copies so far met."""
        limits = get_limits(dtype_of(self.dtype))
        return limits.smallest / self.trough if self.trough < limits.smallest_normal else 0.0

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
