"""Functions that make new leaves, with torch's names and dtypes.

Integers, from `tensor` or `arange`, are int64 and have no gradient; ops on them promote as NumPy does: int64
times float32 is float64, where torch has float32.
"""

from typing import Any

import numpy as np

from gradspec.reference.axes import unpack_integers
from gradspec.reference.conversions import convert_data
from gradspec.reference.dispatch import unwrap
from gradspec.reference.random_numbers import generator
from gradspec.reference.tensor import Tensor


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a new leaf with a copy of the data.

    By default Python's integers become int64 and its floats float32, also in (nested) lists; truth values
    stay what they are, and arrays and tensors keep their dtype.
    """
    source = unwrap(data)
    array = np.array(source, dtype) if dtype is not None or hasattr(source, "dtype") else convert_data(source)
    return Tensor(array, requires_grad)


def zeros(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Return a new leaf of zeros."""
    return Tensor(np.zeros(unpack_integers(shape), dtype), requires_grad)


def ones(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Return a new leaf of ones."""
    return Tensor(np.ones(unpack_integers(shape), dtype), requires_grad)


def empty(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Return a new leaf to be filled in place, as with `uniform_`."""
    return Tensor(np.empty(unpack_integers(shape), dtype), requires_grad)


def rand(
    *shape: Any,
    generator: np.random.Generator = generator,
    dtype: Any = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Return a new leaf of random numbers from 0 (included) to 1 (excluded); see `manual_seed`."""
    return Tensor(generator.random(unpack_integers(shape)).astype(dtype), requires_grad)


def randn(
    *shape: Any,
    generator: np.random.Generator = generator,
    dtype: Any = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Return a new leaf of random numbers of mean 0 and variance 1; see `manual_seed`."""
    return Tensor(generator.standard_normal(unpack_integers(shape)).astype(dtype), requires_grad)


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return a new leaf of start, start + step, ... before end; `arange(n)` starts at 0.

    By default its dtype is int64 if start, end and step are integers, else float32.
    """
    start, end = (0, start) if end is None else (start, end)
    if dtype is None:
        kinds = {convert_data(x).dtype.kind for x in (start, end, step)}
        dtype = np.float32 if "f" in kinds else np.int64
    return Tensor(np.arange(start, end, step, dtype=dtype), requires_grad)
