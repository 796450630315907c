"""New leaves, with torch's spelling: float32 unless said otherwise."""

from typing import Any

import numpy as np

from gradspec.reference.dispatch import unwrap
from gradspec.reference.tensor import Tensor, unpack_integers


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new leaf with a copy of the data: Python numbers and (nested) lists become float32, arrays keep their dtype."""
    given = unwrap(data)
    array = np.array(given, dtype)
    if dtype is None and not hasattr(given, "dtype") and array.dtype != np.bool_:
        array = array.astype(np.float32)
    return Tensor(array, requires_grad)


def zeros(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A new leaf of zeros."""
    return Tensor(np.zeros(unpack_integers(shape), dtype), requires_grad)


def ones(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A new leaf of ones."""
    return Tensor(np.ones(unpack_integers(shape), dtype), requires_grad)


def empty(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A new leaf to be filled in place, as with `uniform_`."""
    return Tensor(np.empty(unpack_integers(shape), dtype), requires_grad)


def arange(*bounds: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A new leaf of start, start + step, ... before stop; of (stop), (start, stop) or (start, stop, step)."""
    return Tensor(np.arange(*bounds, dtype=dtype), requires_grad)
