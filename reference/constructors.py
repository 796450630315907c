"""Functions that make new leaves, with torch's names: float32 by default."""

from typing import Any

import numpy as np

from gradspec.reference.dispatch import unwrap
from gradspec.reference.tensor import Tensor, unpack_integers


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Return a new leaf with a copy of the data.

    By default Python numbers and (nested) lists become float32, and arrays keep their dtype.
    """
    source = unwrap(data)
    array = np.array(source, dtype)
    if dtype is None and not hasattr(source, "dtype") and array.dtype != np.bool_:
        array = array.astype(np.float32)
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


def arange(*bounds: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Return a new leaf of start, start + step, ... before stop.

    The bounds are (stop), (start, stop) or (start, stop, step).
    """
    return Tensor(np.arange(*bounds, dtype=dtype), requires_grad)
