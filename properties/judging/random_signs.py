"""Random signs from a pool: a draw is a window into it, and costs next to nothing.

The pool is the same in every process. What a draw gives depends on the seed and the draws before it alone,
not on what else was computed.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from gradspec.reference.rule import Array

PLACE_BITS = 16
MAX_WINDOW = 2**17
"""So many elements a window may have; larger arrays get signs of their own."""

_POOL_SIZE = 2**PLACE_BITS + MAX_WINDOW


class RandomSigns:
    """Draws of random signs, in the form that they are used in: as factors and as random walks."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def draw_factors(self, shape: tuple[int, ...], size: int, dtype: np.dtype[Any], step: float) -> Array:
        """Return an array of factors that are 1 + step or 1 - step.

        Args:
            shape: The shape of the array.
            size: The number of its elements.
            dtype: Its dtype.
            step: How far from 1 the factors are.
        """
        start = self._draw_integer(PLACE_BITS)
        if size > MAX_WINDOW:
            return _make_factors(self._draw_signs(size), dtype, step).reshape(shape)
        return _get_factor_pool(dtype, step)[start : start + size].reshape(shape)

    def draw_walks(self, count: int, n: int, dtype: np.dtype[Any]) -> Array:
        """Return what n terms count in the sum of their partial sums, each with a random sign.

        The n terms have n - 1 partial sums, of two terms or more. The terms are added up from the last one to
        the second, beginning with the first.

        Args:
            count: How many times n terms there are.
            n: How many terms there are, at least one.
            dtype: The dtype of the terms.

        Returns:
            An array of shape (count, n), whose elements are whole numbers.
        """
        start, size = self._draw_integer(PLACE_BITS), count * n
        if size > MAX_WINDOW:
            window = np.cumsum(self._draw_signs(size), dtype=dtype)
        else:
            window = _get_walk_pool(dtype)[start : start + size]
        walks = window.reshape(count, n)
        walks = walks - walks[:, :1]
        walks[:, 0] = walks[:, -1]
        return walks

    def _draw_signs(self, size: int) -> Array:
        return _make_signs(self._draw_integer(32), size)

    def _draw_integer(self, bits: int) -> int:
        """Return an integer of at most 32 bits from a linear congruential generator (Knuth's MMIX).

        To seed one of Python's or NumPy's generators takes as long as ten draws of factors.
        """
        self._state = (6364136223846793005 * self._state + 1442695040888963407) % 2**64
        return self._state >> (64 - bits)


def count_partial_sums(n: int, dtype: np.dtype[Any]) -> Array:
    """Return in how many partial sums each of n terms is, as `RandomSigns.draw_walks` adds them up."""
    counts = np.arange(n, dtype=dtype)
    counts[0] = n - 1
    return counts


def _make_signs(seed: int, size: int) -> Array:
    return 2 * np.random.default_rng(seed).integers(0, 2, size, np.int8) - np.int8(1)


def _make_factors(signs: Array, dtype: np.dtype[Any], step: float) -> Array:
    return np.where(signs > 0, dtype.type(1 + step), dtype.type(1 - step))


@lru_cache
def _get_factor_pool(dtype: np.dtype[Any], step: float) -> Array:
    return _make_factors(_make_signs(0, _POOL_SIZE), dtype, step)


@lru_cache
def _get_walk_pool(dtype: np.dtype[Any]) -> Array:
    return np.cumsum(_make_signs(0, _POOL_SIZE), dtype=dtype)
