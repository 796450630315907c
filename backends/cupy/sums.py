"""Sums over the rows and columns of a table, as gradients of broadcast arguments need them, in one pass."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import cupy
import numpy as np

from gradspec.backends.cupy.launch import (
    CPP_UNARY_FUNCTIONS,
    NULL,
    are_supported,
    choose_vector_width,
    compile_kernel,
    count_multiprocessors,
    wide_dtype,
)
from gradspec.reference.arrays import unbroadcast
from gradspec.reference.axes import Axes
from gradspec.reference.ops.reductions import reduced_shape
from gradspec.reference.rule import VJP, Array

Shape = tuple[int, ...]

WARPS_PER_BLOCK = 8  # as in table.cu
MIN_ROWS_PER_STRIP = 64  # with fewer, blocks have next to nothing to do
MAX_PARTIAL_SUMS = 1024  # more are summed in two steps
MAX_ELEMENTS_ONE_BLOCK = 65536  # one block adds up so many in the time that several kernels take to start
BLOCKS_PER_MULTIPROCESSOR = 8  # so that all multiprocessors are busy to the end
MAX_GRID_YZ = 65535  # blocks of a grid along its second and third axis


class TableSums(NamedTuple):
    """Sums of a table, of shapes (batch, m), (batch, n) and (batch, n); None where not requested."""

    by_row: Array
    by_column: Array
    plain: Array


def sum_table(
    g: Array,
    dtype: np.dtype[Any],
    *,
    x: Array | None = None,
    function: str = "none",
    bias: Array | None = None,
    dx: Array | None = None,
    a: Array | None = None,
    b: Array | None = None,
    by_row: bool = False,
    by_column: bool = False,
    plain: bool = False,
) -> TableSums:
    """Return sums of the table t = g or, with a function, of its pullback of g at x + bias.

    Args:
        g: The table or cotangent, (batch, m, n), contiguous.
        dtype: The dtype of the sums; each is rounded to it once.
        x: The function's argument, (batch, m, n), contiguous.
        function: One of `ACTIVATIONS`, "times" for t = x g, or "none" for t = g.
        bias: What an activation adds to x, (n).
        dx: Where an activation also writes t, (batch, m, n), contiguous.
        a: The factors of the rows in the sums by column, (m); by default they are 1.
        b: The factors of the columns in the sums by row, (n); by default they are 1.
        by_row: Whether to sum t b over each row.
        by_column: Whether to sum t a over each column.
        plain: Whether to sum t over each column.
    """
    batch, m, n = g.shape
    wide = wide_dtype(g.dtype)
    vector = choose_vector_width(n, g, x, dx)
    tiles = -(-n // (32 * max(vector, 4)))
    strips = _count_strips(m, tiles * min(batch, MAX_GRID_YZ))
    shapes = [(batch, m, tiles), (batch, strips, n), (batch, strips, n)]
    requests = (by_row, by_column, plain)
    partial = [cupy.empty(s, wide) if request else None for s, request in zip(shapes, requests, strict=True)]
    arrays = [NULL if array is None else array for array in (g, x, bias, dx, a, b, *partial)]
    table = f"activated<{CPP_UNARY_FUNCTIONS[function]}>" if function in CPP_UNARY_FUNCTIONS else function
    launch = compile_kernel("table", f"sums_of_table<T,V,{table}>", g.dtype, vector)
    launch(
        (tiles, strips, min(batch, MAX_GRID_YZ)),
        (32 * WARPS_PER_BLOCK,),
        (*arrays, np.int64(batch), np.int64(m), np.int64(n)),
    )
    rows, *columns = partial
    by_column_and_plain = (p if p is None else sum_over_strips(p, dtype) for p in columns)
    return TableSums(rows if rows is None else _sum_over_tiles(rows, dtype), *by_column_and_plain)


def _count_strips(m: int, others: int) -> int:
    """Return into how many strips of rows to cut a table of m rows.

    Args:
        m: How many rows the table has.
        others: How many blocks work on each strip.
    """
    enough_rows = -(-m // MIN_ROWS_PER_STRIP)
    enough_blocks = -(-BLOCKS_PER_MULTIPROCESSOR * count_multiprocessors() // others)
    return max(1, min(enough_rows, enough_blocks, MAX_GRID_YZ))


def sum_over_strips(partial: Array, dtype: np.dtype[Any]) -> Array:
    """Return the sums of (batch, strips, n) over the second axis, rounded to a dtype."""
    batch, strips, n = partial.shape
    if strips == 1 and partial.dtype == dtype:
        return partial[:, 0]
    out = cupy.empty((batch, n), dtype)
    grid, block = (-(-n // 32), min(batch, MAX_GRID_YZ)), (32 * min(32, strips),)
    launch = compile_kernel("partial", "sum_over_strips<T>", dtype, 1)
    launch(grid, block, (partial, out, np.int64(batch), np.int64(strips), np.int64(n)))
    return out


def _sum_over_tiles(partial: Array, dtype: np.dtype[Any]) -> Array:
    """Return the sums of (batch, m, tiles) over the last axis, rounded to a dtype."""
    batch, m, tiles = partial.shape
    if tiles == 1 and partial.dtype == dtype:
        return partial[:, :, 0]
    if tiles > MAX_PARTIAL_SUMS:
        partial = partial.reshape(1, batch * m, tiles)
        return sum_table(partial, dtype, by_row=True).by_row.reshape(batch, m)
    out = cupy.empty((batch, m), dtype)
    launch = compile_kernel("partial", "sum_over_tiles<T>", dtype, 1)
    grid = (min(-(-out.size // WARPS_PER_BLOCK), 2**31 - 1),)
    launch(grid, (32 * WARPS_PER_BLOCK,), (partial, out, np.int64(out.size), np.int64(tiles)))
    return out


def sum_all_and_divide(x: Array, divisor: np.float64, dtype: np.dtype[Any]) -> Array:
    """Return the sum of all elements of x divided by the divisor, rounded to a dtype.

    Args:
        x: A contiguous array of a dtype that the kernels compute in.
        divisor: What the sum is divided by.
        dtype: The dtype of the result.
    """
    if x.size > MAX_ELEMENTS_ONE_BLOCK:
        return (cupy.sum(x) / divisor).astype(dtype)
    out = cupy.empty((), dtype)
    launch = compile_kernel("partial", "sum_of_all<T>", dtype, 1)
    launch((1,), (min(1024, 32 * -(-x.size // 32)),), (x, out, np.int64(x.size), divisor))
    return out


def sum_to_shape(g: Array, shape: Shape) -> Array:
    """Return g summed to a shape, by a kernel where there is one for g."""
    return sum_to_shape_by_kernel(g, shape) if are_supported(g) else unbroadcast(g, shape)


def sum_to_shape_by_kernel(g: Array, shape: Shape, dtype: np.dtype[Any] | None = None) -> Array:
    """Return g summed over the axes along which an argument of this shape was broadcast.

    Args:
        g: A gradient of a dtype that the kernels take.
        shape: The shape of the argument.
        dtype: The dtype to which the sums are rounded once; by default it is that of g.

    Raises:
        ValueError: The shape does not broadcast to that of g.
    """
    groups = _group_axes(g.shape, shape)
    if not g.size:
        return cupy.zeros(shape, g.dtype)
    if not any(summed for summed, _ in groups):
        return g if g.shape == shape else g.reshape(shape)
    groups = _cut_long_sum(groups)
    total = cupy.ascontiguousarray(g)
    while any(summed for summed, _ in groups):
        i = max(k for k, (summed, _) in enumerate(groups) if summed)
        before, after = (math.prod(n for _, n in part) for part in (groups[:i], groups[i + 1 :]))
        groups_left = groups[:i] + groups[i + 1 :]
        has_more = any(summed for summed, _ in groups_left)
        to = wide_dtype(g.dtype) if has_more else g.dtype if dtype is None else dtype
        table = total.reshape(*((1, before, groups[i][1]) if after == 1 else (before, groups[i][1], after)))
        sums = sum_table(table, to, by_row=after == 1, plain=after != 1)
        total, groups = sums.by_row if after == 1 else sums.plain, groups_left
    return total.reshape(shape)


def reduction_rule(*, of_means: bool) -> Callable[..., VJP | None]:
    """Return the rule of sum or, with `of_means`, of mean."""

    def rule(x: Array, *, axis: Axes = None, keepdims: bool = False) -> VJP | None:
        if not are_supported(x):
            return None
        keepdims_shape = reduced_shape(x, axis, keepdims=True)
        count = x.size // math.prod(keepdims_shape)
        if count == 1:
            return None
        value = sum_to_shape_by_kernel(x, keepdims_shape, wide_dtype(x.dtype) if of_means else None)
        value = (value / count).astype(x.dtype, copy=False) if of_means else value

        def pull(g: Array) -> Array:
            if of_means:
                g = (g.astype(wide_dtype(x.dtype), copy=False) / count).astype(x.dtype, copy=False)
            return np.broadcast_to(g.reshape(keepdims_shape), x.shape)

        return value.reshape(reduced_shape(x, axis, keepdims)), (pull,)

    return rule


def _cut_long_sum(groups: list[tuple[bool, int]]) -> list[tuple[bool, int]]:
    """Return the groups with a long sum over the last one cut in two, so that more blocks have work."""
    summed, n = groups[-1]
    k = math.gcd(n, MAX_PARTIAL_SUMS)
    return [*groups[:-1], (True, k), (True, n // k)] if summed and n // k >= MAX_PARTIAL_SUMS else groups


def _group_axes(shape: Shape, target: Shape) -> list[tuple[bool, int]]:
    """Return groups of neighbouring axes: whether they are summed, and how many elements they have."""
    lead = len(shape) - len(target)
    full = (1,) * lead + target
    if lead < 0 or any(n not in (1, m) for m, n in zip(shape, full, strict=True)):
        raise ValueError(f"a pullback returned a gradient of shape {shape} for an argument of shape {target}")
    groups: list[tuple[bool, int]] = []
    for m, n in zip(shape, full, strict=True):
        if m == 1:
            continue
        if groups and groups[-1][0] == (n == 1):
            groups[-1] = (n == 1, groups[-1][1] * m)
        else:
            groups.append((n == 1, m))
    return groups


def find_outer_product_sizes(shape: Shape, x: Shape, y: Shape) -> tuple[int, int] | None:
    """Return (m, n) if x is a column of m and y a row of n elements of a table of this shape; None if not."""
    x, y = ((1,) * (len(shape) - len(s)) + s for s in (x, y))
    for k in range(1, len(shape)):
        if x == shape[:k] + (1,) * (len(shape) - k) and y == (1,) * k + shape[k:]:
            return math.prod(shape[:k]), math.prod(shape[k:])
    return None
