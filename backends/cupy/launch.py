"""The kernels in `kernels/`: each compiled when it is first needed, for one dtype and one width of its loads."""

from functools import cache
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from gradspec.reference.tape import Array

TYPES = {"float64": "double", "float32": "float", "float16": "half_t", "bfloat16": "bfloat16_t"}
"""The C type of each dtype that the kernels take."""

FUNCTIONS = {
    "negative": "negative", "abs": "abs_", "exp": "exp_", "expm1": "expm1_", "log": "log_", "log1p": "log1p_",
    "sqrt": "sqrt_", "square": "square", "reciprocal": "reciprocal", "sin": "sin_", "cos": "cos_", "tanh": "tanh_",
    "sigmoid": "sigmoid", "relu": "relu", "silu": "silu", "softplus": "softplus", "gelu": "gelu",
    "gelu tanh": "gelu_tanh",
}  # fmt: skip
"""The struct in functions.h of each function of one argument."""

ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "sigmoid")
"""Those that are fused with a bias."""

PAIRS = {
    "add": "sum_of", "subtract": "difference", "multiply": "product", "divide": "quotient", "pow": "power",
    "maximum": "larger", "minimum": "smaller",
}  # fmt: skip
"""The struct in functions.h of each function of two arguments."""

PULLED = ("divide", "pow", "maximum", "minimum")
"""Those whose pullbacks are more than products."""

SOFTMAX = {"softmax": "SOFTMAX", "log_softmax": "LOG_SOFTMAX"}
STAGES = ("forward", "backward")
EITHER = ("true", "false")
TABLES = ("none", "times", *(f"activated<{FUNCTIONS[a]}>" for a in ACTIVATIONS))

KERNELS: dict[str, list[str]] = {
    "elementwise": [f"{k}<T,V,{f}>" for k in ("value_of", "pull_of") for f in FUNCTIONS.values()],
    "pair": [
        *(
            f"value_of_two<T,V,{f}>"
            for f in (*PAIRS.values(), *(f"biased<{FUNCTIONS[a]}>" for a in ACTIVATIONS))
        ),
        *(f"pull_of_two<T,V,{PAIRS[f]},{first}>" for f in PULLED for first in EITHER),
    ],
    "softmax": [
        *(f"softmax_{k}<T,V,{w},{whole}>" for k in STAGES for w in SOFTMAX.values() for whole in EITHER),
        *(f"cross_entropy_{k}<T,V,{whole}>" for k in STAGES for whole in EITHER),
    ],
    "columns": [
        *(f"softmax_{k}_of_columns<T,V,{w}>" for k in STAGES for w in SOFTMAX.values()),
        *(f"cross_entropy_{k}_of_columns<T,V>" for k in STAGES),
    ],
    "layer_norm": [
        *(f"layer_norm_forward<T,V,{whole}>" for whole in EITHER),
        "layer_norm_backward<T,V>",
        "layer_norm_backward_of_long_rows<T,V>",
    ],
    "table": [f"sums_of_table<T,V,{f}>" for f in TABLES],
    "partial": ["sum_over_strips<T>", "sum_over_tiles<T>", "sum_of_all<T>"],
}
"""The kernels of each file, as templates of the element type T and of V, how many elements are loaded at once."""

HEADERS = ("common.h", "functions.h")
OPTIONS = ("-std=c++17",)
VECTOR = 16  # bytes of the widest load
NULL = np.uintp(0)


def source(file: str) -> str:
    """The CUDA C of a file with the headers it needs, so that no compiler has to look for them."""
    folder = Path(__file__).with_name("kernels")
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in (*HEADERS, f"{file}.cu"))


def names(file: str, dtype: str, width: int) -> list[str]:
    """The C++ names of the kernels of a file for one dtype and width."""
    return [_name(kernel, dtype, width) for kernel in KERNELS[file]]


def _name(kernel: str, dtype: str, width: int) -> str:
    return kernel.replace("<T", f"<{TYPES[dtype]}").replace(",V", f",{width}")


@cache
def kernel(file: str, template: str, dtype: np.dtype[Any], width: int) -> Any:
    """A kernel, to be called with a grid, a block and its arguments: arrays, and numbers of NumPy's types."""
    name = _name(template, dtype.name, width)
    module = cupy.RawModule(code=source(file), options=OPTIONS, name_expressions=(name,))
    return module.get_function(name)


def width(n: int, *arrays: Array | None) -> int:
    """How many elements are loaded at once: 16 bytes where rows of n elements start at multiples of that, or else one."""
    given = [x for x in arrays if x is not None]
    wide: int = VECTOR // given[0].dtype.itemsize
    return 1 if n % wide or any(x.data.ptr % VECTOR for x in given) else wide


def takes(*xs: Any) -> bool:
    """Whether the kernels take these arguments: arrays of CuPy of one dtype, none of them empty."""
    return all(isinstance(x, cupy.ndarray) and x.dtype == xs[0].dtype and x.size for x in xs) and (
        _is_known(xs[0].dtype)
    )


@cache
def _is_known(dtype: np.dtype[Any]) -> bool:
    return dtype.name in TYPES


def wide_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What the kernels compute in."""
    return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)


@cache
def _processors(device: int) -> int:
    return int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])


def processors() -> int:
    """How many multiprocessors the current device has."""
    return _processors(cupy.cuda.runtime.getDevice())
