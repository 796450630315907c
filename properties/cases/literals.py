"""Literals: values written as short Python expressions that give exactly the same values."""

import math
import re
import warnings
from functools import lru_cache
from typing import Any

import numpy as np

from gradspec.reference.rule import Array

MAX_NUMBERS_SHOWN = 100  # numbers of an array that a report repeats


def format_briefly(x: Any) -> str:
    """Return a literal, or only the count and shape of an array of more numbers than anybody reads."""
    if isinstance(x, np.ndarray) and x.size > MAX_NUMBERS_SHOWN:
        return f"{x.size} numbers of shape {x.shape}, which the script has in full"
    return literal(x)


def literal(x: Any) -> str:
    """Return a short Python literal of exactly x.

    An array becomes nested lists, a number has as few digits as identify it.
    """
    if isinstance(x, tuple):
        return f"({', '.join(map(_format_key_part, x))}{',' if len(x) == 1 else ''})"
    if not isinstance(x, np.ndarray):
        return repr(x)
    if x.size == 0:
        return f"np.empty({x.shape}{f', np.{x.dtype}' if x.dtype.kind in 'biu' else ''})"
    nested = _format_nested(x)
    return f"np.array({nested})" if x.dtype.kind in "biu" else nested


def format_as_numpy(x: Array) -> str:
    """Return a NumPy literal of exactly x, with its dtype; of bfloat16 it needs `ml_dtypes`.

    Of an array of more numbers than anybody reads, it is zeros of its shape, with a comment that says so.
    """
    x = np.asarray(x)
    dtype = f"ml_dtypes.{x.dtype}" if x.dtype == "bfloat16" else f"np.{x.dtype}"
    if x.size > MAX_NUMBERS_SHOWN or not x.size:
        omitted = f"  # in place of {format_briefly(x)}" if x.size else ""
        return f"np.zeros({x.shape}, {dtype}){omitted}"
    numbers = re.sub("inf|nan", r"np.\g<0>", _format_nested(x))
    return f"np.array({numbers}, {dtype})"


def _format_key_part(x: Any) -> str:
    """Return a literal of a part of a key, with the dtype of an array, which nothing else tells there."""
    floats = isinstance(x, np.ndarray) and x.dtype.kind not in "biu"
    return f"np.array({_format_nested(x)}, np.{x.dtype})" if floats else literal(x)


def _format_nested(x: Array) -> str:
    if x.dtype.kind in "biu":
        return str(x.tolist())

    def format_part(part: Any) -> str:
        if isinstance(part, list):
            return f"[{', '.join(map(format_part, part))}]"
        if part == 0:
            # As an integer, -0 would lose its sign.
            return "-0.0" if math.copysign(1, part) < 0 else "0"
        return _format_shortest(part, x.dtype)

    return format_part(x.astype(np.float64).tolist())


@lru_cache(4096)  # a large array has few different numbers
def _format_shortest(x: float, dtype: np.dtype[Any]) -> str:
    """Return the number with as few digits as identify it in that dtype."""
    # With few digits, the largest number of a dtype overflows.
    with warnings.catch_warnings(action="ignore"):
        return next(s for digits in range(1, 40) if _is_same_number(dtype.type(s := f"{x:.{digits}g}"), x))


def _is_same_number(x: Any, y: Any) -> bool:
    return bool(x == y or (x != x and y != y))
