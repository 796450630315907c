"""Jitter for a tenth of the price, right as long as all numbers are ordinary ones.

What is dear in a `JitterSource` is to look at every result: is anything infinite, NaN, near the largest or
the smallest number? A `QuickJitterSource` moves every result as if nothing were, keeps it, and looks at all
of them together at the end. Where something was, the computation is to be run again with a `JitterSource`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradspec.properties.judging.jitter import DRIFT, EXACT_UFUNCS, JitterSource, get_limits
from gradspec.properties.judging.random_signs import RandomSigns, count_partial_sums
from gradspec.reference.rule import Array

MAX_ELEMENTS_KEPT = 2**18
MAX_RESULTS_KEPT = 1024
PEAK_HEADROOM = 2**12  # partial sums that are smaller than the largest number by this factor are not recorded


class QuickJitterSource(JitterSource):
    """Random steps to neighbouring numbers, as a `JitterSource` gives them where all numbers are ordinary.

    The steps are others, but the peak and the trough are what it would find with these steps; except that the
    peak may lack partial sums that are too small to matter. `look_at_numbers` brings both up to date.
    """

    def __init__(self, dtype: np.dtype[Any], seed: int) -> None:
        super().__init__(dtype, seed)
        self._all_ordinary = True
        self._signs = RandomSigns(seed)
        self._negligible_peak = get_limits(dtype).largest / PEAK_HEADROOM
        self._results: list[Any] = []
        self._elements_kept = 0
        self._sums: list[tuple[Array, Any]] = []
        self._most_terms = 0

    def round_result(
        self, ufunc: np.ufunc, method: str, inputs: Sequence[Any], axis: Any, result: Any
    ) -> Any:
        is_float = result.dtype.kind == "f"
        if method == "reduce":
            if ufunc is np.add:
                result = self._round_sum(inputs[0], axis, result, is_float)
            elif ufunc is np.multiply:
                self.record_partial_results(ufunc, inputs[0], axis)
        return self.jitter(result) if is_float and ufunc not in EXACT_UFUNCS else result

    def jitter(self, x: Any) -> Array:
        self._results.append(x)
        self._elements_kept += x.size
        if self._elements_kept > MAX_ELEMENTS_KEPT or len(self._results) > MAX_RESULTS_KEPT:
            self.look_at_numbers()
        # Of two arrays of rank 0 the product is no array.
        return np.asarray(x * self._signs.draw_factors(x.shape, x.size, x.dtype, self.spacing))

    def look_at_numbers(self) -> bool:
        """Bring the peak and the trough up to date, and let go of what was kept for it.

        Returns:
            Whether all numbers so far were ordinary: neither infinite nor NaN, and zero or not near the
            smallest or the largest ones.
        """
        if self._all_ordinary:
            with np.errstate(all="ignore"):
                self._look_at_results()
                self._look_at_sums()
        self._results.clear()
        self._sums.clear()
        self._elements_kept = 0
        return self._all_ordinary

    def _look_at_results(self) -> None:
        if self._results:
            sizes = np.abs(np.concatenate(self._results, axis=None))
            top, least = (
                float(np.maximum.reduce(sizes, initial=0)),
                float(np.minimum.reduce(sizes, initial=np.inf)),
            )
            if least == 0:
                least = float(np.minimum.reduce(sizes, initial=np.inf, where=sizes > 0))
            self._all_ordinary &= self.smallest / self.spacing <= least and top < self.largest / 2
            self.peak, self.trough = max(self.peak, top), min(self.trough, least)

    def _look_at_sums(self) -> None:
        """Record the partial sums, unless even the terms' number times their size is negligible."""
        if self._sums:
            terms = np.concatenate([x for x, _ in self._sums], axis=None)
            if not self._most_terms * float(np.max(np.abs(terms), initial=0)) < self._negligible_peak:
                for x, axis in self._sums:
                    self.record_partial_results(np.add, x, axis)

    def _round_sum(self, x: Array, axis: Any, result: Any, is_float: bool) -> Any:
        """Keep the terms of a sum, and return it off by what each partial sum may be off by, half a unit."""
        n = x.size // max(result.size, 1)
        self._sums.append((x, axis))
        self._most_terms = max(self._most_terms, n)
        if n < 2 or not is_float:
            return result
        rows = _move_to_end(x, axis).reshape(result.size, n)
        walks = (
            DRIFT * count_partial_sums(n, result.dtype)
            if self.drifts
            else self._signs.draw_walks(result.size, n, result.dtype)
        )
        return result + (np.vecdot(rows, walks) * (self.compute_eps / 2)).reshape(result.shape)


def _move_to_end(x: Array, axis: int | tuple[int, ...] | None) -> Array:
    """Return x with these axes behind all others."""
    if axis is None or axis == -1:
        return x
    moved = {a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))}
    kept = [i for i in range(x.ndim) if i not in moved]
    return x if kept == [*range(len(kept))] else x.transpose(*kept, *moved)
