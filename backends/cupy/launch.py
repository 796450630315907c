"""The kernels in `kernels/`: each is compiled when first needed, for one dtype and one width of its loads."""

from functools import cache
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from gradspec.reference.rule import Array

C_TYPES = {"float64": "double", "float32": "float", "float16": "half_t", "bfloat16": "bfloat16_t"}
"""The C type of each dtype that the kernels take."""

CPP_UNARY_FUNCTIONS = {
    "negative": "negative", "abs": "abs_", "exp": "exp_", "expm1": "expm1_", "log": "log_", "log1p": "log1p_",
    "sqrt": "sqrt_", "square": "square", "reciprocal": "reciprocal", "sin": "sin_", "cos": "cos_",
    "tanh": "tanh_", "sigmoid": "sigmoid", "relu": "relu", "silu": "silu", "softplus": "softplus",
    "gelu": "gelu", "gelu tanh": "gelu_tanh",
}  # fmt: skip
"""The struct in functions.h of each function of one argument."""

BIAS_ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "sigmoid")
"""The functions that are fused with a bias."""

CPP_BINARY_FUNCTIONS = {
    "add": "sum_of", "subtract": "difference", "multiply": "product", "divide": "quotient", "pow": "power",
    "maximum": "larger", "minimum": "smaller",
}  # fmt: skip
"""The struct in functions.h of each function of two arguments."""

BINARY_PULLBACK_OPS = ("divide", "pow", "maximum", "minimum")
"""The ops whose pullbacks are more than products."""

SOFTMAX_ENUMS = {"softmax": "SOFTMAX", "log_softmax": "LOG_SOFTMAX"}
DIRECTIONS = ("forward", "backward")
CPP_BOOLS = ("true", "false")
TABLE_KERNEL_FUNCTIONS = (
    "none",
    "times",
    *(f"activated<{CPP_UNARY_FUNCTIONS[a]}>" for a in BIAS_ACTIVATIONS),
)

KERNELS_BY_FILE: dict[str, list[str]] = {
    "elementwise": [f"{k}<T,V,{f}>" for k in ("value_of", "pull_of") for f in CPP_UNARY_FUNCTIONS.values()],
    "pair": [
        *(
            f"value_of_two<T,V,{f}>"
            for f in (
                *CPP_BINARY_FUNCTIONS.values(),
                *(f"biased<{CPP_UNARY_FUNCTIONS[a]}>" for a in BIAS_ACTIVATIONS),
            )
        ),
        *(
            f"pull_of_two<T,V,{CPP_BINARY_FUNCTIONS[f]},{first}>"
            for f in BINARY_PULLBACK_OPS
            for first in CPP_BOOLS
        ),
    ],
    "softmax": [
        *(
            f"softmax_{k}<T,V,{w},{whole}>"
            for k in DIRECTIONS
            for w in SOFTMAX_ENUMS.values()
            for whole in CPP_BOOLS
        ),
        *(f"cross_entropy_{k}<T,V,{whole}>" for k in DIRECTIONS for whole in CPP_BOOLS),
    ],
    "columns": [
        *(f"softmax_{k}_of_columns<T,V,{w}>" for k in DIRECTIONS for w in SOFTMAX_ENUMS.values()),
        *(f"cross_entropy_{k}_of_columns<T,V>" for k in DIRECTIONS),
    ],
    "layer_norm": [
        *(f"layer_norm_forward<T,V,{whole}>" for whole in CPP_BOOLS),
        "layer_norm_backward<T,V>",
        "layer_norm_backward_of_long_rows<T,V>",
    ],
    "table": [f"sums_of_table<T,V,{f}>" for f in TABLE_KERNEL_FUNCTIONS],
    "partial": ["sum_over_strips<T>", "sum_over_tiles<T>", "sum_of_all<T>"],
}
"""The kernels of each file, as templates of T, the element type, and V, how many elements a load takes."""

HEADERS = ("common.h", "functions.h", "softmax.h")
COMPILER_OPTIONS = ("-std=c++17",)
VECTOR_BYTES = 16  # of the widest load
NULL = np.uintp(0)


def read_source(file: str) -> str:
    """Return the CUDA C of a file with the headers it needs, so that no compiler has to look for them."""
    folder = Path(__file__).with_name("kernels")
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in (*HEADERS, f"{file}.cu"))


def list_kernel_names(file: str, dtype: str, width: int) -> list[str]:
    """Return the C++ names of the kernels of a file for one dtype and width."""
    return [_instantiate_name(kernel, dtype, width) for kernel in KERNELS_BY_FILE[file]]


def _instantiate_name(kernel: str, dtype: str, width: int) -> str:
    return kernel.replace("<T", f"<{C_TYPES[dtype]}").replace(",V", f",{width}")


@cache
def compile_kernel(file: str, template: str, dtype: np.dtype[Any], width: int) -> Any:
    """Return a kernel, to be called with a grid, a block and its arguments: arrays and NumPy scalars."""
    name = _instantiate_name(template, dtype.name, width)
    module = cupy.RawModule(code=read_source(file), options=COMPILER_OPTIONS, name_expressions=(name,))
    return module.get_function(name)


def choose_vector_width(n: int, *arrays: Array | None) -> int:
    """Return how many elements to load at once.

    Those of 16 bytes where rows of n elements of all the arrays start at multiples of 16 bytes, else one.
    """
    present = [x for x in arrays if x is not None]
    wide: int = VECTOR_BYTES // present[0].dtype.itemsize
    return 1 if n % wide or any(x.data.ptr % VECTOR_BYTES for x in present) else wide


def are_supported(*xs: Any) -> bool:
    """Return whether the kernels take these arguments: CuPy arrays of one dtype, none of them empty."""
    return all(isinstance(x, cupy.ndarray) and x.dtype == xs[0].dtype and x.size for x in xs) and (
        _is_supported_dtype(xs[0].dtype)
    )


@cache
def _is_supported_dtype(dtype: np.dtype[Any]) -> bool:
    return dtype.name in C_TYPES


def wide_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that the kernels compute in for arrays of this dtype."""
    return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)


@cache
def _count_multiprocessors(device: int) -> int:
    return int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])


def count_multiprocessors() -> int:
    """Return how many multiprocessors the current device has."""
    return _count_multiprocessors(cupy.cuda.runtime.getDevice())
