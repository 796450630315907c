"""Numbers below the smallest normal one: which backends flush them to zero, and what follows from that.

XLA, TensorFlow and most GPUs do so for speed. It is asked of each backend and dtype once, by an op that gives
such a number, on arrays of one element and of many, which may take another path. Where a backend flushes,

- a result below the smallest normal number may be zero, of either sign;
- an input, or cotangent, below it may count as zero, and so may what an operation of the spec's formula, or
  of a usual one, gives or takes on the way: of a sum any product and any partial sum. A number that counts as
  zero may lie on a kink, where any legal subgradient is right.

Nothing else may: a larger number that is zero is wrong, and so is a NaN that no zero explains. What a zero
explains is computed: the spec is run once more in higher precision, on inputs with zeros in place of the
subnormal numbers, and with every operation flushing what it takes and gives.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any, Generic, TypeVar

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import dtype_of, exact_dtype
from gradspec.properties.judging.formula_samples import Compute, compute_quietly
from gradspec.properties.judging.jitter import JitteredArray, JitterSource, use_jitter
from gradspec.reference.rule import Array

PROBED_SIZES = (1, 4096)
"""Numbers of elements: one, which some libraries treat by itself, and as many as fill vectors."""

HALVING_FACTORS = {"multiply": 0.5, "divide": 2.0, "matmul": 0.5, "linear": 0.5}
"""The ops that a backend may be asked by, and the second argument that halves the first, a column."""

T = TypeVar("T")
Convert = Callable[[Array], Array]


def get_smallest_normal(dtype: str) -> float:
    """Return the smallest normal number of a dtype."""
    return float(ml_dtypes.finfo(dtype_of(dtype)).smallest_normal)


# Which backends flush

_probed_backends: dict[int, tuple[Backend, dict[str, bool]]] = {}
"""What was found out so far, by `id` of the backend, whose tables of functions have no other identity."""


def flushes_subnormals(backend: Backend, dtype: str) -> bool:
    """Return whether the backend flushes subnormal numbers of a dtype to zero.

    A backend that has none of the ops to ask it by, or that raises, is taken to hold them.
    """
    _, found = _probed_backends.setdefault(id(backend), (backend, {}))
    if dtype not in found:
        found[dtype] = any(_probe(backend, dtype, size) for size in PROBED_SIZES)
    return found[dtype]


def _probe(backend: Backend, dtype: str, size: int) -> bool:
    """Return whether half of the smallest normal number becomes zero, or counts as zero when it is doubled.

    Args:
        backend: The backend.
        dtype: The dtype.
        size: How many elements the arrays have.
    """
    name = next((name for name in HALVING_FACTORS if name in backend.ops), None)
    if name is None:
        return False
    multiply, factor = backend.ops[name], HALVING_FACTORS[name]
    tiny = np.full((size, 1), get_smallest_normal(dtype)).astype(dtype_of(dtype))
    half = (tiny / 2).astype(tiny.dtype)

    def scale(x: Any, by: float) -> Any:
        return multiply(x, backend.from_numpy(np.array([[by]]).astype(tiny.dtype)))

    try:
        # Of a result, not of a constant, which a compiler may have halved itself.
        halved = backend.to_numpy(scale(scale(backend.from_numpy(tiny), 1), factor))
        doubled = backend.to_numpy(scale(backend.from_numpy(half), 1 / factor))
    except Exception:
        return False
    results = [(np.asarray(halved), half), (np.asarray(doubled), tiny)]
    if any(x.shape != exact.shape or not np.all((x == exact) | (x == 0)) for x, exact in results):
        return False  # wrong in another way, which the laws will tell
    return any(bool(np.any(x == 0)) for x, _ in results)


_may_flush: ContextVar[bool] = ContextVar("may_flush", default=False)


@contextmanager
def allow_flushing(may_flush: bool) -> Iterator[None]:
    """Let every judge within the context allow, or not allow, what flushing subnormal numbers explains."""
    token = _may_flush.set(may_flush)
    try:
        yield
    finally:
        _may_flush.reset(token)


def is_flushing_allowed() -> bool:
    """Return whether the backend that is judged flushes subnormal numbers, in the dtype of the case."""
    return _may_flush.get()


# What flushing explains


class FlushedOutcomes(Generic[T]):
    """The outcomes of a computation that flushes subnormal numbers, computed when first needed, and once."""

    def __init__(
        self,
        dtype: str,
        formulas: Sequence[Compute[T]],
        compute_sides: Callable[[Convert], list[T]] = lambda flush: [],
    ) -> None:
        """Make outcomes that nothing is computed of yet.

        Args:
            dtype: The dtype whose subnormal numbers are flushed; the outcomes are of higher precision.
            formulas: The computation by the spec's formula, then by usual ones.
            compute_sides: From what flushes an array to the outcomes on the sides of the kinks that flushed
                inputs are on; none without such kinks.
        """
        self.dtype, self.formulas, self.compute_sides = dtype, formulas, compute_sides
        self.smallest_normal = get_smallest_normal(dtype)

    def flush(self, x: Array) -> Array:
        """Return x with zeros of the same sign in place of its subnormal numbers."""
        if x.dtype.kind in "biu":
            return x
        zeros: Array = np.copysign(0, x)
        return np.asarray(np.where(np.abs(x) < self.smallest_normal, zeros, x), x.dtype)

    @cached_property
    def outcomes(self) -> list[T]:
        """The outcomes of all formulas with flushed inputs, whose zeros keep their signs or have none."""
        converts: list[Convert] = [self._flush_widely, lambda x: self._flush_widely(x) + 0]
        return [compute_quietly(formula, convert) for formula in self.formulas for convert in converts]

    @cached_property
    def spans(self) -> list[list[T]]:
        """Lists of outcomes between which a result may lie.

        One for each formula, with every operation flushing, and one for the sides of the kinks that only
        flushed inputs are on.
        """
        spans = [[self._compute_flushing(formula, way) for way in (0, 1, -1)] for formula in self.formulas]
        with np.errstate(all="ignore"):
            sides = self.compute_sides(self.flush)
        return [*spans, sides] if sides else spans

    def _compute_flushing(self, formula: Compute[T], way: int) -> T:
        """Return the outcome with every operation flushing.

        Args:
            formula: The computation.
            way: Which way sums are off by what they may lose: up (1), down (-1) or not at all (0).
        """
        with use_jitter(_FlushingSource(self, way)):
            return compute_quietly(formula, lambda x: self._flush_widely(x).view(JitteredArray))

    def _flush_widely(self, x: Array) -> Array:
        """Return x flushed, in the dtype that counts as exact."""
        return self.flush(x.astype(exact_dtype(self.dtype)))

    def explain(
        self, got: Array, exact: Array, part: Callable[[T], Array], allow: Callable[[Array], Array]
    ) -> Array:
        """Return for each element of a result whether it is right, or flushing explains that it is not.

        Args:
            got: The result.
            exact: The exact one.
            part: What to take of an outcome.
            allow: From exact numbers to how far off a result may be.
        """
        explained = np.zeros(exact.shape, np.bool_)
        for right in (exact, *(np.asarray(part(o)).view(np.ndarray) for o in self.outcomes)):
            if right.dtype.kind in "biu":
                explained |= got == right
                continue
            allowed = allow(right)
            explained |= (got == right) | (np.isnan(got) & np.isnan(right)) | (np.abs(got - right) <= allowed)
            explained |= (got == 0) & (np.abs(right) - allowed < self.smallest_normal)
        for span in self.spans:
            ends = [np.asarray(part(o)).view(np.ndarray) for o in span]
            if ends[0].dtype.kind in "biu":
                explained |= np.logical_or.reduce([got == end for end in ends])
                continue
            low, high = np.min(ends, axis=0), np.max(ends, axis=0)
            explained |= (low - allow(low) <= got) & (got <= high + allow(high))
            explained |= (got == low) | (np.isnan(got) & np.isnan(low))
            explained |= (got == 0) & (np.abs(ends[0]) - allow(ends[0]) < self.smallest_normal)
        return explained


class _FlushingSource(JitterSource):
    """Flushes the result of every operation of a `JitteredArray`, in place of moving it."""

    def __init__(self, flushed: FlushedOutcomes[Any], way: int) -> None:
        super().__init__(dtype_of(flushed.dtype), 0)
        self.flushed, self.way = flushed, way

    def round_result(
        self, ufunc: np.ufunc, method: str, inputs: Sequence[Any], axis: Any, result: Any
    ) -> Any:
        result = np.asarray(result)
        if self.way and result.dtype.kind == "f":
            result = result + self.way * self.flushed.smallest_normal * _count_lost(
                ufunc, method, inputs, axis, result
            )
        return self.flushed.flush(result)


def _count_lost(ufunc: np.ufunc, method: str, inputs: Sequence[Any], axis: Any, result: Array) -> Array | int:
    """Return how many numbers below the smallest normal one a sum may lose on the way, at most.

    Of n numbers that are not zero these are n - 2 partial sums, the last being the result; of n products as
    many, and the products themselves. Of fewer than two it loses none.
    """
    if method == "reduce" and ufunc is np.add:
        count = np.add.reduce(inputs[0] != 0, axis=axis, dtype=np.int64).reshape(result.shape)
        return np.maximum(count - 2, 0)
    if ufunc.signature is None:
        return 0
    count = ufunc(*((x != 0).astype(np.int64) for x in inputs))
    return np.where(count > 1, 2 * count - 2, 0)
