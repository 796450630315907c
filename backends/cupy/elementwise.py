"""Functions of one argument: a kernel for the value and one for the pullback."""

from collections.abc import Callable

import cupy
import numpy as np

from gradspec.backends.cupy.launch import (
    CPP_UNARY_FUNCTIONS,
    are_supported,
    choose_vector_width,
    compile_kernel,
)
from gradspec.reference.rule import VJP, Array

THREADS_PER_BLOCK = 256
"""Threads of a block that goes over elements; a multiprocessor holds eight such blocks."""


def elementwise_rule(name: str) -> Callable[..., VJP | None]:
    """Return the rule of an op of `UNARY_FUNCTIONS`."""

    def rule(x: Array, *, approximate: str = "none") -> VJP | None:
        function = name if approximate == "none" else f"{name} {approximate}"
        if not are_supported(x) or function not in CPP_UNARY_FUNCTIONS:
            return None
        x, struct = cupy.ascontiguousarray(x), CPP_UNARY_FUNCTIONS[function]
        value = launch_elementwise("elementwise", f"value_of<T,V,{struct}>", x)
        return value, (lambda g: launch_elementwise("elementwise", f"pull_of<T,V,{struct}>", x, g),)

    return rule


def launch_elementwise(file: str, template: str, *xs: Array) -> Array:
    """Run a kernel of a file on arrays of one shape, and return its result."""
    xs = tuple(map(cupy.ascontiguousarray, xs))
    y = cupy.empty(xs[0].shape, xs[0].dtype)
    vector = choose_vector_width(
        0, *xs, y
    )  # any length will do: the kernel takes the rest at the end one by one
    launch = compile_kernel(file, template, y.dtype, vector)
    launch((-(-y.size // (THREADS_PER_BLOCK * vector)),), (THREADS_PER_BLOCK,), (*xs, y, np.int64(y.size)))
    return y
