"""Arithmetic that is off by a unit in the last place in every operation.

An implementation may round wherever it likes: it may save a rounded result for the backward pass, or subtract
a mean that is one unit off. How far that leads is a property of the formula and the numbers. It is measured
by running the spec on arrays whose every operation is followed by a random step to a neighbouring number of
the dtype in question (Monte Carlo arithmetic, D. S. Parker, 1997).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, cached_property
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from gradspec.reference.axes import normalize_axes
from gradspec.reference.rule import Array
from gradspec.reference.tape import Variable

EXACT_UFUNCS = {np.negative, np.absolute, np.sign, np.maximum, np.minimum}
"""These never round, whatever the numbers."""


class Limits(NamedTuple):
    """The spacing of the numbers of a dtype at 1, the smallest positive ones and the largest."""

    spacing: float
    smallest: float
    smallest_normal: float
    largest: float


@cache
def get_limits(dtype: np.dtype[Any]) -> Limits:
    """Return the limits of a dtype of floats; asking NumPy each time would take longer than a jitter."""
    info = ml_dtypes.finfo(dtype)
    return Limits(
        float(info.eps), float(info.smallest_subnormal), float(info.smallest_normal), float(info.max)
    )


DRIFT_PERIOD = 64
"""In one of so many copies the errors of partial sums all have the same direction."""

DRIFT = 0.25
"""How large these are, in units of the largest that a single one may be.

Where few different numbers are added up, one after the other, they are rounded alike for as long as the sum
stays within a power of two, on average by up to a quarter of a unit.
"""


class JitterSource:
    """Random steps to neighbouring numbers of a dtype, and a record of how large and small the numbers got.

    Attributes:
        compute_dtype: The dtype of the arithmetic. For 16-bit floats it is float32: they round on the way,
            but do not overflow as their squares would.
        compute_eps: The spacing of its numbers at 1.
        largest: The largest of its numbers.
        seed: The seed of all that is random.
        spacing: The spacing, at 1, of the numbers of the dtype itself.
        smallest: The smallest positive number of the dtype itself.
        peak: The largest number met so far.
        trough: The smallest number met so far that is not zero.
    """

    def __init__(self, dtype: np.dtype[Any], seed: int) -> None:
        self.seed = seed
        self.compute_dtype = np.dtype(np.float32) if dtype.itemsize == 2 else dtype
        limits, compute_limits = get_limits(dtype), get_limits(self.compute_dtype)
        self.spacing, self.smallest = limits.spacing, limits.smallest
        self.compute_eps, self.largest = compute_limits.spacing, compute_limits.largest
        self.peak, self.trough = 0.0, np.inf

    @property
    def drifts(self) -> bool:
        """Whether partial sums are all off in the same direction."""
        return self.seed > 0 and self.seed % DRIFT_PERIOD == 0

    @cached_property
    def rng(self) -> np.random.Generator:
        """The source of randomness."""
        return np.random.default_rng(self.seed)

    def record_sizes(self, sizes: Array) -> bool:
        """Record how large and how small these numbers are, or may be in another order of operations.

        Infinities are left out: one that was infinite from the start is no sign of overflow.

        Returns:
            Whether all are ordinary: not zero, infinite or NaN, nor near the smallest or the largest numbers.
        """
        top = float(np.maximum.reduce(sizes, axis=None, initial=0))
        least = float(np.minimum.reduce(sizes, axis=None, initial=np.inf))
        ordinary = self.smallest / self.spacing <= least and top < self.largest / 2
        if not (least > 0 and top < np.inf):
            finite = sizes[np.isfinite(sizes) & (sizes != 0)]
            top, least = float(np.max(finite, initial=0)), float(np.min(finite, initial=np.inf))
        self.peak, self.trough = max(self.peak, top), min(self.trough, least)
        return ordinary

    def record_partial_results(self, ufunc: np.ufunc, x: Array, axis: Any) -> None:
        """Record the most extreme partial results that a sum or product of x may have, in whatever order."""
        sizes = np.abs(x).astype(np.float64)
        sizes = np.where(np.isfinite(sizes), sizes, 0)
        if ufunc is np.add:
            self.peak = max(self.peak, float(np.max(np.sum(sizes, axis=axis), initial=0)))
        if ufunc is np.multiply:
            self.peak = max(self.peak, float(np.max(np.prod(np.maximum(sizes, 1), axis=axis), initial=0)))
            self.record_sizes(np.prod(np.where(sizes == 0, 1, np.minimum(sizes, 1)), axis=axis))

    def record_overflow(self, ufunc: np.ufunc, result: Array, inputs: Sequence[Any]) -> None:
        """Record if an element is infinite although its inputs are neither infinite nor, at a pole, 0."""
        infinite = np.isinf(result)
        if not np.any(infinite):
            return
        if ufunc.signature is None:
            for x in inputs:
                infinite = infinite & ~np.isinf(x) & (np.asarray(x) != 0)
        else:  # a product of matrices
            infinite = np.isinf(ufunc(*(np.where(np.isfinite(x), np.abs(x), 0) for x in inputs)))
        self.peak = np.inf if np.any(infinite) else self.peak

    def draw_summation_error(self, x: Array, axis: Any, like: Array) -> Array:
        """Return what a sum, taken term by term, may be off by if each partial sum is off by half a unit.

        16-bit floats are added up in float32, as they are by every library that documents it.

        Args:
            x: The terms.
            axis: The axes they are added up over.
            like: The sum, whose shape the errors get.
        """
        axes = normalize_axes(axis, x.ndim)
        n = math.prod(x.shape[i] for i in axes)
        rows = (
            np.moveaxis(x, axes, range(-len(axes), 0)).reshape(*np.shape(like), n) if axes else x[..., None]
        )
        partial = np.add.accumulate(rows, axis=-1)[..., 1:]
        signs = DRIFT if self.drifts else np.where(self.rng.random(partial.shape) < 0.5, -1, 1)
        off = np.sum(partial * signs, axis=-1) * (self.compute_eps / 2)
        return np.where(np.isfinite(off), off, 0)

    def round_result(
        self, ufunc: np.ufunc, method: str, inputs: Sequence[Any], axis: Any, result: Any
    ) -> Any:
        """Return the result of an operation as it may be if it is rounded otherwise, and record what it met.

        Args:
            ufunc: The function.
            method: The method of it that was called.
            inputs: What it was called with, none of it a `JitteredArray`.
            axis: The axes, where the method is "reduce".
            result: What it returned.
        """
        is_float = result.dtype.kind == "f"
        if method == "reduce":
            self.record_partial_results(ufunc, inputs[0], axis)
            if ufunc is np.add and is_float:
                result = result + self.draw_summation_error(inputs[0], axis, result).astype(result.dtype)
        if method == "__call__" and is_float:
            self.record_overflow(ufunc, result, inputs)
        return self.jitter(result) if is_float and ufunc not in EXACT_UFUNCS else result

    def jitter(self, x: Any) -> Array:
        """Return x with each element moved by about one unit in the last place, up or down.

        Zeros, infinities and NaN stay as they are; the largest numbers may overflow.
        """
        x = np.asarray(x)
        unit = x.dtype.type(self.spacing)
        step = np.where(self.rng.random(x.shape) < 0.5, -unit, unit)
        size = np.abs(x)
        if self.record_sizes(size):
            return np.asarray(x + size * step)
        moved = x + np.maximum(size, self.smallest / self.spacing) * step * (x != 0)
        moved = np.where(np.abs(moved) > self.largest, np.copysign(np.inf, moved), moved)
        return np.where(np.isfinite(x), moved, x).astype(x.dtype)


_current_jitter: ContextVar[JitterSource | None] = ContextVar("rounding", default=None)


@contextmanager
def use_jitter(rounding: JitterSource) -> Iterator[None]:
    """Let every `JitteredArray` round like this within the context."""
    token = _current_jitter.set(rounding)
    try:
        yield
    finally:
        _current_jitter.reset(token)


def get_jitter() -> JitterSource | None:
    """Return what every `JitteredArray` rounds like now; None outside of `use_jitter`."""
    return _current_jitter.get()


class JitteredArray(np.ndarray[Any, Any]):
    """An array whose every operation is followed by `JitterSource.round_result`, while one is in use."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        if any(isinstance(x, Variable) for x in inputs):
            return NotImplemented  # it runs its own op, on arrays
        plain = [x.view(np.ndarray) if isinstance(x, JitteredArray) else x for x in inputs]
        result = getattr(ufunc, method)(*plain, **kwargs)
        if isinstance(result, np.ndarray | np.generic):
            # A Python function made into a ufunc returns objects.
            if result.dtype == np.object_:
                result = result.astype(inputs[0].dtype)
            if rounding := _current_jitter.get():
                result = rounding.round_result(ufunc, method, plain, kwargs.get("axis", 0), result)
        if out:
            out[0][...] = result
            return out[0]
        return _view_as_jittered(result)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _view_as_jittered(super().__array_function__(function, types, args, kwargs))


def _view_as_jittered(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return x.view(JitteredArray)
    return np.asarray(x).view(JitteredArray) if isinstance(x, np.generic) else x
