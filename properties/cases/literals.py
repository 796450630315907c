"""Literals: values written as short Python expressions that give exactly the same values."""

import math
import re
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from gradspec.properties.cases.repetition import MAX_NUMBERS_LISTED, format_shortly
from gradspec.reference.rule import Array

MAX_CHARACTERS_SHOWN = 100  # of an expression of a large array that a report repeats


def format_briefly(x: Any) -> str:
    """Return a literal, or only the count and shape of an array, in a key too, that has no short one."""
    if isinstance(x, tuple):
        parts = [format_briefly(k) if np.size(k) > MAX_NUMBERS_LISTED else _format_key_part(k) for k in x]
        return f"({', '.join(parts)}{',' if len(x) == 1 else ''})"
    if isinstance(x, np.ndarray) and x.size > MAX_NUMBERS_LISTED:
        short = format_shortly(x, _format_nested)
        if short is None or len(short) > MAX_CHARACTERS_SHOWN:
            return f"{x.size} numbers of shape {x.shape}, which the script has in full"
    return literal(x)


def literal(x: Any) -> str:
    """Return a short Python literal of exactly x.

    An array becomes nested lists, or a NumPy expression if there is a short one of so many numbers; a number
    has as few digits as identify it.
    """
    if isinstance(x, tuple):
        return f"({', '.join(map(_format_key_part, x))}{',' if len(x) == 1 else ''})"
    if not isinstance(x, np.ndarray):
        return repr(x)
    if x.size == 0:
        return f"np.empty({x.shape}{f', np.{x.dtype}' if x.dtype.kind in 'biu' else ''})"
    if short := _format_many_shortly(x):
        return short
    nested = _format_nested(x)
    return f"np.array({nested})" if x.dtype.kind in "biu" else nested


def format_as_numpy(x: Array) -> str | None:
    """Return a NumPy expression of exactly x, with its dtype; of bfloat16 it needs `ml_dtypes`.

    None for an array of more numbers than anybody reads that has no short expression.
    """
    x = np.asarray(x)
    dtype = f"ml_dtypes.{x.dtype}" if x.dtype == "bfloat16" else f"np.{x.dtype}"
    if not x.size:
        return f"np.zeros({x.shape}, {dtype})"
    short = _format_many_shortly(x)
    if short is None and x.size > MAX_NUMBERS_LISTED:
        return None
    numbers = re.sub(r"\b(inf|nan)\b", r"np.\1", short or _format_nested(x))
    if short and short.startswith("np.full("):
        return f"{numbers[:-1]}, {dtype})"
    return f"np.array({numbers}, {dtype})"


def format_assignments(arrays: Mapping[str, Array]) -> list[str]:
    """Return lines of Python that give arrays these names, with the imports that they need.

    An array without a short expression is left out, and a comment says so.
    """
    lines = ["import numpy as np"]
    if any(x.dtype == "bfloat16" for x in arrays.values()):
        lines.append("import ml_dtypes")
    for name, x in arrays.items():
        expression = format_as_numpy(x)
        lines.append(
            f"{name} = {expression}" if expression else f"# {name}: {x.size} numbers of shape {x.shape}"
        )
    return lines


def _format_many_shortly(x: Array) -> str | None:
    """Return a short expression of an array of many numbers; None if there is none, or they are few."""
    return format_shortly(x, _format_nested) if x.size > MAX_NUMBERS_LISTED else None


def _format_key_part(x: Any) -> str:
    """Return a literal of a part of a key, with the dtype of an array, which nothing else tells there."""
    floats = isinstance(x, np.ndarray) and x.dtype.kind not in "biu"
    numbers = (_format_many_shortly(x) or _format_nested(x)) if floats else ""
    return f"np.array({numbers}, np.{x.dtype})" if floats else literal(x)


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
    """Return the number with as few digits as identify it in that dtype: 20, not 2e+01."""
    # With few digits, the largest number of a dtype overflows.
    with warnings.catch_warnings(action="ignore"):
        s = next(s for digits in range(1, 40) if _is_same_number(dtype.type(s := f"{x:.{digits}g}"), x))
    whole = str(int(float(s))) if "e+" in s else s
    return whole if len(whole) <= len(s) else s


def _is_same_number(x: Any, y: Any) -> bool:
    return bool(x == y or (x != x and y != y))
