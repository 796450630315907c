"""Arrays of many numbers as short expressions: constant, evenly spaced, periodic, or runs of equal ones."""

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from gradspec.reference.rule import Array

MAX_NUMBERS_LISTED = 100
"""How many numbers a list has at most."""

FormatValues = Callable[[Array], str]
"""Writes an array as a number or a nested list, of exactly its numbers."""


def format_shortly(x: Array, format_values: FormatValues) -> str | None:
    """Return a NumPy expression of exactly the numbers and the shape of x; None if there is no short one.

    The dtype is that of the numbers as Python has them, so it may be wider than that of x.

    Args:
        x: An array with elements.
        format_values: Writes single numbers and short lists of them.
    """
    flat, shape = np.ascontiguousarray(x).reshape(-1), x.shape
    if is_constant(flat):
        return f"np.full({shape}, {format_values(flat[0, ...])})"
    period = find_period(flat, len(flat) // 2)
    if period is not None and (inner := _format_flat(flat[:period], format_values)):
        return f"np.resize({inner}, {shape})"
    expression = _format_flat(flat, format_values)
    if expression is None or x.ndim == 1:
        return expression
    return f"{expression}.reshape({shape})"


def is_constant(x: Array) -> bool:
    """Return whether all elements are the same number, of the same sign if they are 0."""
    bits = get_bits(x)
    return bool(np.all(bits == bits[:1]))


def find_period(x: Array, longest: int = MAX_NUMBERS_LISTED) -> int | None:
    """Return after how many elements, in C order, an array repeats; None if it does not, or only later."""
    bits = get_bits(x)
    for p in map(int, np.flatnonzero(bits[1 : longest + 1] == bits[0])[:MAX_NUMBERS_LISTED] + 1):
        if np.array_equal(bits[p:], bits[:-p]):
            return p
    return None


def get_bits(x: Array) -> Array:
    """Return the elements in C order as integers that differ wherever the elements do, in the sign of 0 too.

    All NaNs are the same.
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    if x.dtype.kind not in "biu" and np.any(is_nan := flat != flat):
        flat = np.where(is_nan, np.array(np.nan).astype(x.dtype), flat)
    return flat.view(f"u{x.dtype.itemsize}")


def _format_flat(flat: Array, format_values: FormatValues) -> str | None:
    """Return a short expression of an array of one axis; None if there is none."""
    n = len(flat)
    if n <= 4:
        return format_values(flat)
    if is_constant(flat):
        return f"np.full({n}, {format_values(flat[0, ...])})"
    if even := _format_evenly_spaced(flat):
        return even
    if flat.dtype.kind in "iu" and (
        even := _format_evenly_spaced(np.roll(flat, -(k := int(np.argmin(flat)))))
    ):
        return f"np.roll({even}, {k})"
    if (period := find_period(flat, n // 2)) and (inner := _format_flat(flat[:period], format_values)):
        return f"np.resize({inner}, {n})"
    bits = get_bits(flat)
    starts = np.flatnonzero(np.append(True, bits[1:] != bits[:-1]))
    lengths = np.diff(np.append(starts, n)).tolist()
    common = reduce(math.gcd, lengths)
    if common > 1 and (inner := _format_flat(flat[::common], format_values)):
        return f"np.repeat({inner}, {common})"
    if 4 * len(starts) <= min(n, 2 * MAX_NUMBERS_LISTED):
        return f"np.repeat({format_values(flat[starts])}, {lengths})"
    return format_values(flat) if n <= MAX_NUMBERS_LISTED else None


def _format_evenly_spaced(flat: Array) -> str | None:
    """Return an expression by `np.arange` if it gives exactly these numbers, else None."""
    if flat.dtype == np.bool_ or not np.all(np.isfinite(flat)):
        return None
    n, (start, second) = len(flat), flat[:2].astype(np.float64).tolist()
    step = second - start
    if not math.isfinite(step) or max(abs(start), abs(start + n * step)) > 2**53:
        return None
    if start.is_integer() and step.is_integer() and step:
        first, by = int(start), int(step)
        stop = first + n * by
        bounds = f"{stop}" if (first, by) == (0, 1) else f"{first}, {stop}" + (f", {by}" if by != 1 else "")
        numbers, expression = np.arange(first, stop, by), f"np.arange({bounds})"
    elif flat.dtype.kind in "iu":
        return None
    else:
        offset = f" + {start!r}" if start or step < 0 else ""
        numbers, expression = np.arange(n) * step + start, f"(np.arange({n}) * {step!r}{offset})"
    with np.errstate(all="ignore"):
        same = np.array_equal(get_bits(numbers.astype(flat.dtype)), get_bits(flat))
    return expression if same else None
