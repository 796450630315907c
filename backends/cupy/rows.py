"""Fused kernels of softmax, log_softmax, cross_entropy and layer_norm: a block to a row, or over columns."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import cupy
import numpy as np

from gradspec.backends.cupy.deferred_errors import get_error_flag
from gradspec.backends.cupy.launch import (
    NULL,
    SOFTMAX_ENUMS,
    are_supported,
    choose_vector_width,
    compile_kernel,
    count_multiprocessors,
    wide_dtype,
)
from gradspec.backends.cupy.sums import sum_all_and_divide, sum_over_strips
from gradspec.reference.axes import normalize_axes
from gradspec.reference.ops.nn import check_and_count_classes, describe_bad_targets
from gradspec.reference.rule import VJP, Array

MAX_GRID_X = 2**31 - 1
"""Blocks of a grid along its first axis; a block takes further rows in its turn."""

MAX_THREADS_PER_BLOCK = 512
"""The number of threads that the kernels are compiled for, as in common.h."""

MIN_COLUMNS = 16
"""Adjacent columns: with fewer, most of a warp would have none, and they are made rows."""

WARPS_PER_BLOCK = 8
"""Warps of a block that goes over columns, as in columns.cu."""


def elements_per_thread(dtype: np.dtype[Any], vector: int) -> int:
    """Return how many elements of a row a thread holds if it loads `vector` at once, as in common.h."""
    return 4 if dtype.itemsize == 8 or vector == 1 else 8


def choose_block(n: int, dtype: np.dtype[Any], vector: int) -> tuple[int, bool]:
    """Return how many threads a row of n elements takes, in full warps, and whether they hold all of it."""
    each = elements_per_thread(dtype, vector)
    threads = min(MAX_THREADS_PER_BLOCK, 32 * -(-n // (32 * each)))
    return threads, n <= threads * each


class Lines(NamedTuple):
    """How an array is cut into lines along one axis: as (outer, n, inner); as rows if inner is 1."""

    outer: int
    n: int
    inner: int

    @property
    def line_count(self) -> int:
        return self.outer * self.inner

    def launch(self, name: str, *options: str, arrays: tuple[Array, ...], args: tuple[Any, ...]) -> None:
        """Run a kernel of softmax.cu, or its namesake in columns.cu.

        Args:
            name: The kernel's name in softmax.cu.
            options: Its template arguments after the element type and the width.
            arrays: The arrays that have these lines.
            args: The kernel's arguments, all but the sizes.
        """
        dtype = arrays[0].dtype
        if self.inner == 1:
            vector = choose_vector_width(self.n, *arrays)
            threads, whole = choose_block(self.n, dtype, vector)
            template = ",".join([f"{name}<T,V", *options, str(whole).lower()])
            run = compile_kernel("softmax", f"{template}>", dtype, vector)
            run((min(self.outer, MAX_GRID_X),), (threads,), (*args, np.int64(self.outer), np.int64(self.n)))
            return
        vector = choose_vector_width(self.inner, *arrays)
        vector = vector if self.inner >= 32 * vector else 1
        template = ",".join([f"{name}_of_columns<T,V", *options])
        tiles = -(-self.inner // (32 * vector))
        run = compile_kernel("columns", f"{template}>", dtype, vector)
        run((tiles, min(self.outer, 65535)), (32 * WARPS_PER_BLOCK,), (*args, *map(np.int64, self)))


def split_into_lines(x: Array, axis: int) -> tuple[Array, Lines, Callable[[Array], Array]]:
    """Return x as a contiguous array, its lines along the axis, and a function that puts axes back in place.

    That function gives results of the array's shape the order of axes that x has. An axis with only few
    adjacent columns is made the last.
    """
    inner = math.prod(x.shape[axis + 1 :])
    if 1 < inner < MIN_COLUMNS:
        x = cupy.moveaxis(x, axis, -1)
        xs, lines, _ = split_into_lines(x, x.ndim - 1)
        return xs, lines, lambda y: cupy.moveaxis(y, -1, axis)
    n = x.shape[axis]
    return cupy.ascontiguousarray(x), Lines(x.size // (n * inner), n, inner), lambda y: y


def softmax_rule(name: str) -> Callable[..., VJP | None]:
    """Return the rule of softmax or log_softmax."""
    which = SOFTMAX_ENUMS[name]

    def rule(x: Array, *, axis: int = -1) -> VJP | None:
        if not are_supported(x) or not x.ndim:
            return None
        (along,) = normalize_axes(axis, x.ndim)
        xs, lines, put_back = split_into_lines(x, along)
        y, stats = cupy.empty(xs.shape, x.dtype), cupy.empty((lines.line_count, 2), wide_dtype(x.dtype))
        lines.launch("softmax_forward", which, arrays=(xs, y), args=(xs, y, stats))

        def pull(g: Array) -> Array:
            gs = split_into_lines(g, along)[0]
            dx = cupy.empty(xs.shape, x.dtype)
            lines.launch("softmax_backward", which, arrays=(xs, gs, dx), args=(xs, stats, gs, dx))
            return put_back(dx)

        return put_back(y), (pull,)

    return rule


def cross_entropy_rule(eager_gradient: bool) -> Callable[..., VJP | None]:
    """Return the rule of cross_entropy.

    Args:
        eager_gradient: Whether the forward pass, which has x at hand, computes the gradient of x for a
            cotangent of 1, as `backward()` gives to a loss. If the cotangent is 1, nothing is left to do.
    """

    def rule(x: Array, target: Array, *, reduction: str = "mean") -> VJP | None:
        check_and_count_classes(x, target, reduction)
        if not are_supported(x):
            return None
        count = target.size
        xs, lines, put_back = split_into_lines(x, min(1, x.ndim - 1))
        targets = cupy.ascontiguousarray(target).astype(np.int64)  # a copy that nobody overwrites
        wide = wide_dtype(x.dtype)
        losses, stats = cupy.empty(target.shape, wide), cupy.empty((count, 2), wide)
        bad, each = get_error_flag(describe_bad_targets(x)), reduction == "none"
        divisor = np.float64(count if reduction == "mean" else 1)
        # The first call of the pullback gets this array, and owns it.
        eager_dx = [cupy.empty(xs.shape, x.dtype)] if eager_gradient else []
        args = xs, targets, losses, stats, bad, eager_dx[0] if eager_gradient else NULL, divisor
        lines.launch("cross_entropy_forward", arrays=(xs, *eager_dx), args=args)

        def pull(g: Array) -> Array:
            gs, is_eager = cupy.ascontiguousarray(g), bool(eager_dx)
            dx = eager_dx.pop() if is_eager else cupy.empty(xs.shape, x.dtype)
            args = xs, targets, stats, gs, np.int64(each), divisor, dx, np.int64(is_eager)
            lines.launch("cross_entropy_backward", arrays=(xs, dx), args=args)
            return put_back(dx)

        value = losses.astype(x.dtype, copy=False) if each else sum_all_and_divide(losses, divisor, x.dtype)
        return value, (pull, None)

    return rule


def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> VJP | None:
    """Normalize the last axes; the gradients of x, weight and bias come from one pass over x and g."""
    fits = are_supported(x, weight, bias) and weight.ndim and weight.shape == bias.shape
    if not fits or x.shape[x.ndim - weight.ndim :] != weight.shape:
        return None
    n, dtype, wide = weight.size, x.dtype, wide_dtype(x.dtype)
    rows, sizes = x.size // n, (np.int64(x.size // n), np.int64(n))
    x, weight, bias = (cupy.ascontiguousarray(a) for a in (x, weight, bias))
    y, stats = cupy.empty(x.shape, dtype), cupy.empty((rows, 2), wide)
    vector = choose_vector_width(n, x, weight, bias, y)
    threads, whole = choose_block(n, dtype, vector)
    forward = compile_kernel("layer_norm", f"layer_norm_forward<T,V,{str(whole).lower()}>", dtype, vector)
    grid = (min(rows, MAX_GRID_X),)
    forward(grid, (threads,), (x, weight, bias, y, stats, np.float64(eps), *sizes))

    def pull(g: Array) -> tuple[Array, Array, Array]:
        g, dx = cupy.ascontiguousarray(g), cupy.empty(x.shape, dtype)
        vector = choose_vector_width(n, x, weight, g, dx)
        threads, whole = choose_block(n, dtype, vector)
        blocks = min(rows, _count_resident_blocks(threads, dtype))
        partial = (cupy.empty if whole else cupy.zeros)((2, blocks, n), wide)
        name = "layer_norm_backward" if whole else "layer_norm_backward_of_long_rows"
        backward = compile_kernel("layer_norm", f"{name}<T,V>", dtype, vector)
        backward((blocks,), (threads,), (x, weight, stats, g, dx, partial, *sizes))
        # Each is summed into memory of its own.
        dweight, dbias = (sum_over_strips(partial[i : i + 1], dtype) for i in (0, 1))
        return dx, dweight.reshape(weight.shape), dbias.reshape(weight.shape)

    return y, pull


def _count_resident_blocks(threads: int, dtype: np.dtype[Any]) -> int:
    """Return how many blocks of layer_norm's backward pass, with so many threads, the device runs at a time.

    Their registers let 512 threads of a multiprocessor run, or 1,024 for 16-bit floats.
    """
    threads_per_multiprocessor = (2 if dtype.itemsize == 2 else 1) * MAX_THREADS_PER_BLOCK
    return count_multiprocessors() * max(1, threads_per_multiprocessor // threads)
