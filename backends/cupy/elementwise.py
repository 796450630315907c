"""Functions of one argument: a kernel for the value and one for the pullback."""

from collections.abc import Callable

import cupy
import numpy as np

from gradspec.backends.cupy.launch import FUNCTIONS, kernel, takes, width
from gradspec.reference.tape import VJP, Array

THREADS = 256  # of a block that goes over elements, and a multiprocessor holds eight of them


def elementwise_rule(name: str) -> Callable[..., VJP | None]:
    """The rule of an op of `FUNCTIONS`."""

    def rule(x: Array, *, approximate: str = "none") -> VJP | None:
        function = name if approximate == "none" else f"{name} {approximate}"
        if not takes(x) or function not in FUNCTIONS:
            return None
        x, struct = cupy.ascontiguousarray(x), FUNCTIONS[function]
        value = over("elementwise", f"value_of<T,V,{struct}>", x)
        return value, (lambda g: over("elementwise", f"pull_of<T,V,{struct}>", x, g),)

    return rule


def over(file: str, template: str, *xs: Array) -> Array:
    """What a kernel makes of arrays of one shape."""
    xs = tuple(map(cupy.ascontiguousarray, xs))
    y = cupy.empty(xs[0].shape, xs[0].dtype)
    vector = width(0, *xs, y)  # what is left over at the end goes one by one
    launch = kernel(file, template, y.dtype, vector)
    launch((-(-y.size // (THREADS * vector)),), (THREADS,), (*xs, y, np.int64(y.size)))
    return y
