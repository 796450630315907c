"""Arrays of what people write for one: numbers and lists of them, in the dtypes that torch gives them."""

from typing import Any

import numpy as np

from gradspec.reference.arrays import as_array
from gradspec.reference.tape import Variable


def convert_data(data: Any) -> np.ndarray[Any, Any]:
    """Return Python numbers, or a (nested) list of them, as an array: int64, float32 or bool, as in torch."""
    array = np.array(data)
    return array if array.dtype.kind in "biu" else array.astype(np.float32)


def convert_argument(data: Any) -> Any:
    """Return what `Tensor` is called with as an array: of a list, in float32.

    Raises:
        TypeError: for a number, which torch takes for a length.
    """
    if isinstance(data, list | tuple):
        return np.array(data, np.float32)
    if isinstance(data, Variable):
        return data.data
    if isinstance(data, int | float) and not isinstance(data, np.generic):
        raise TypeError(
            f"Tensor({data}) may mean a number or a length: write tensor({data}) or empty({data})"
        )
    return as_array(data)
