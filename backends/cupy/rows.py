"""softmax, log_softmax, cross_entropy and layer_norm: fused kernels, one block to a row."""

from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from gradspec.backends.cupy.arrays import refuse
from gradspec.backends.cupy.launch import NULL, SOFTMAX, kernel, processors, takes, wide_dtype, width
from gradspec.backends.cupy.sums import sums
from gradspec.reference.axes import normalize_axes
from gradspec.reference.ops.nn import classes_of, not_classes
from gradspec.reference.tape import VJP, Array

MOST_BLOCKS = 2**31 - 1  # of a grid along its first axis; kernels take further rows in their turn
MOST_THREADS = 512  # of a block, as the kernels are compiled for


def threads_for(n: int, dtype: np.dtype[Any]) -> int:
    """How many threads a row of n elements takes, in full warps: each holds 8 elements, or 4 of float64."""
    held = 4 if dtype.itemsize == 8 else 8
    return min(MOST_THREADS, 32 * -(-n // (32 * held)))


def _rows_of(x: Array, axis: int) -> Array:
    """X with the axis last, in order."""
    return cupy.ascontiguousarray(cupy.moveaxis(x, axis, -1))


def _softmax_kernel(stage: str, name: str, n: int, rows: int, *arrays: Array) -> Callable[..., None]:
    """The launch of a kernel in softmax.cu, for arrays of rows of n elements."""
    dtype = arrays[0].dtype
    launch = kernel("softmax", f"softmax_{stage}<T,V,{SOFTMAX[name]}>", dtype.name, width(n, *arrays))
    grid, block = (min(rows, MOST_BLOCKS),), (threads_for(n, dtype),)
    return lambda *args: launch(grid, block, (*args, np.int64(rows), np.int64(n)))


def softmax_rule(name: str) -> Callable[..., VJP | None]:
    """The rule of softmax or log_softmax."""

    def rule(x: Array, *, axis: int = -1) -> VJP | None:
        if not takes(x) or not x.ndim:
            return None
        (along,) = normalize_axes(axis, x.ndim)
        xs = _rows_of(x, along)
        n, rows = xs.shape[-1], x.size // xs.shape[-1]
        y, stats = cupy.empty(xs.shape, x.dtype), cupy.empty((rows, 2), wide_dtype(x.dtype))
        _softmax_kernel("forward", name, n, rows, xs, y)(xs, y, stats, NULL, NULL)

        def pull(g: Array) -> Array:
            gs, dx = _rows_of(g, along), cupy.empty(xs.shape, x.dtype)
            launch = _softmax_kernel("backward", name, n, rows, xs, gs, dx)
            launch(xs, stats, gs, dx, NULL, np.int64(0), np.float64(1))
            return cupy.moveaxis(dx, -1, along)

        return cupy.moveaxis(y, -1, along), (pull,)

    return rule


def cross_entropy(x: Array, target: Array, *, reduction: str = "mean") -> VJP | None:
    """As the spec has it, but for targets that are no classes: they are told of later, see `arrays.refuse`."""
    n = classes_of(x, target, reduction)
    if not takes(x):
        return None
    axis, count = min(1, x.ndim - 1), target.size
    xs, targets = (
        _rows_of(x, axis),
        cupy.ascontiguousarray(target).astype(np.int64),
    )  # a copy: nobody overwrites it
    wide = wide_dtype(x.dtype)
    losses, stats, bad = (
        cupy.empty(target.shape, wide),
        cupy.empty((count, 2), wide),
        cupy.zeros((), np.bool_),
    )
    _softmax_kernel("forward", "cross_entropy", n, count, xs)(xs, losses, stats, targets, bad)
    refuse(bad, not_classes(x))
    each = reduction == "none"

    def pull(g: Array) -> Array:
        gs, dx = cupy.ascontiguousarray(g), cupy.empty(xs.shape, x.dtype)
        launch = _softmax_kernel("backward", "cross_entropy", n, count, xs, dx)
        divisor = np.float64(count if reduction == "mean" else 1)
        launch(xs, stats, gs, dx, targets, np.int64(each), divisor)
        return cupy.moveaxis(dx, -1, axis)

    value = losses if each else cupy.sum(losses)
    value = value / count if reduction == "mean" else value
    return value.astype(x.dtype, copy=False), (pull, None)


def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> VJP | None:
    """The gradients of weight and bias come with that of x, from the same pass over x and g."""
    fits = takes(x, weight, bias) and weight.ndim and weight.shape == bias.shape
    if not fits or x.shape[x.ndim - weight.ndim :] != weight.shape:
        return None
    n, dtype, wide = weight.size, x.dtype, wide_dtype(x.dtype)
    rows, scale = x.size // n, np.float64(eps)
    x, weight, bias = (cupy.ascontiguousarray(a) for a in (x, weight, bias))
    y, stats = cupy.empty(x.shape, dtype), cupy.empty((rows, 2), wide)
    block, sizes = (threads_for(n, dtype),), (np.int64(rows), np.int64(n))
    forward = kernel("layer_norm", "layer_norm_forward<T,V>", dtype.name, width(n, x, weight, bias, y))
    forward((min(rows, MOST_BLOCKS),), block, (x, weight, bias, y, stats, scale, *sizes))

    def pull(g: Array) -> tuple[Array, Array, Array]:
        g, dx = cupy.ascontiguousarray(g), cupy.empty(x.shape, dtype)
        blocks = min(rows, _resident(block[0]))
        partial = cupy.zeros((2, blocks, n), wide)
        backward = kernel("layer_norm", "layer_norm_backward<T,V>", dtype.name, width(n, x, g, dx))
        backward((blocks,), block, (x, weight, stats, g, dx, partial, *sizes))
        dweight, dbias = sums(partial, plain=True).plain
        return dx, *(d.astype(dtype, copy=False).reshape(weight.shape) for d in (dweight, dbias))

    return y, pull


def _resident(threads: int) -> int:
    """How many blocks of so many threads the device runs at a time: of 128 registers each, 512 threads fit."""
    return processors() * max(1, 512 // threads)
