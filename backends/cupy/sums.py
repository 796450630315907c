"""Sums over the rows and columns of a table: what broadcasting asks of gradients, in one pass over the memory each."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import cupy
import numpy as np

from gradspec.backends.cupy.launch import (
    NULL,
    UNARY_FUNCTIONS,
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

WARPS_PER_BLOCK = 8  # of a block, as in table.cu
MIN_ROWS_PER_STRIP = (
    64  # rows that one strip of a table has at the least: with fewer, blocks have next to nothing to do
)
MAX_PARTIAL_SUMS = 1024  # partial sums: more are summed in two steps
MAX_ELEMENTS_ONE_BLOCK = (
    65536  # elements: a block that adds them up alone is no slower than several kernels are to start
)
BLOCKS_PER_MULTIPROCESSOR = 8  # for each multiprocessor, so that all are busy to the end
MAX_GRID_YZ = 65535  # blocks of a grid along its second and third axis


class TableSums(NamedTuple):
    """Sums of a table: (batch, m), (batch, n) and (batch, n); None where not asked for."""

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
    """Sums of the table t = g, or with a function of x and g: its pullback of g at x + bias, which dx gets as well.

    g, x, dx: (batch, m, n), contiguous; a: (m); b, bias: (n). by_row: the sums of t b over each row; by_column: of t a over
    each column; plain: of t. function: one of `ACTIVATIONS`, or "times" for t = x g. dtype: of the sums; each is rounded to
    it once.
    """
    batch, m, n = g.shape
    wide = wide_dtype(g.dtype)
    vector = choose_vector_width(n, g, x, dx)
    tiles = -(-n // (32 * max(vector, 4)))
    strips = _count_strips(m, tiles * min(batch, MAX_GRID_YZ))
    shapes = [(batch, m, tiles), (batch, strips, n), (batch, strips, n)]
    asked = (by_row, by_column, plain)
    partial = [cupy.empty(s, wide) if wanted else None for s, wanted in zip(shapes, asked, strict=True)]
    arrays = [NULL if array is None else array for array in (g, x, bias, dx, a, b, *partial)]
    table = f"activated<{UNARY_FUNCTIONS[function]}>" if function in UNARY_FUNCTIONS else function
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
    """Into how many strips of rows a table is cut, with so many blocks to each."""
    return max(
        1,
        min(
            -(-m // MIN_ROWS_PER_STRIP),
            -(-BLOCKS_PER_MULTIPROCESSOR * count_multiprocessors() // others),
            MAX_GRID_YZ,
        ),
    )


def sum_over_strips(partial: Array, dtype: np.dtype[Any]) -> Array:
    """The sums of (batch, strips, n) over its second axis, rounded to a dtype."""
    batch, strips, n = partial.shape
    if strips == 1 and partial.dtype == dtype:
        return partial[:, 0]
    out = cupy.empty((batch, n), dtype)
    grid, block = (-(-n // 32), min(batch, MAX_GRID_YZ)), (32 * min(32, strips),)
    launch = compile_kernel("partial", "sum_over_strips<T>", dtype, 1)
    launch(grid, block, (partial, out, np.int64(batch), np.int64(strips), np.int64(n)))
    return out


def _sum_over_tiles(partial: Array, dtype: np.dtype[Any]) -> Array:
    """The sums of (batch, m, tiles) over its last axis, rounded to a dtype."""
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


def sum_of_all(x: Array, divisor: np.float64, dtype: np.dtype[Any]) -> Array:
    """The sum of all elements of x, contiguous and of a dtype the kernels compute in, over the divisor; rounded to a dtype."""
    if x.size > MAX_ELEMENTS_ONE_BLOCK:
        return (cupy.sum(x) / divisor).astype(dtype)
    out = cupy.empty((), dtype)
    launch = compile_kernel("partial", "sum_of_all<T>", dtype, 1)
    launch((1,), (min(1024, 32 * -(-x.size // 32)),), (x, out, np.int64(x.size), divisor))
    return out


def sum_to_shape(g: Array, shape: Shape) -> Array:
    """G summed to a shape, by a kernel where it can."""
    return sum_to_shape_by_kernel(g, shape) if are_supported(g) else unbroadcast(g, shape)


def sum_to_shape_by_kernel(g: Array, shape: Shape, dtype: np.dtype[Any] | None = None) -> Array:
    """G summed over the axes along which an argument of this shape was broadcast, and rounded once: to a dtype, or its own.

    Raises ValueError where no broadcast leads from the shape to that of g.
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
        goes_on = any(summed for summed, _ in groups_left)
        to = wide_dtype(g.dtype) if goes_on else g.dtype if dtype is None else dtype
        table = total.reshape(*((1, before, groups[i][1]) if after == 1 else (before, groups[i][1], after)))
        found = sum_table(table, to, by_row=after == 1, plain=after != 1)
        total, groups = found.by_row if after == 1 else found.plain, groups_left
    return total.reshape(shape)


def reduction_rule(*, of_means: bool) -> Callable[..., VJP | None]:
    """The rule of sum, or of mean."""

    def rule(x: Array, *, axis: Axes = None, keepdims: bool = False) -> VJP | None:
        if not are_supported(x):
            return None
        kept = reduced_shape(x, axis, keepdims=True)
        count = x.size // math.prod(kept)
        if count == 1:
            return None
        value = sum_to_shape_by_kernel(x, kept, wide_dtype(x.dtype) if of_means else None)
        value = (value / count).astype(x.dtype, copy=False) if of_means else value

        def pull(g: Array) -> Array:
            if of_means:
                g = (g.astype(wide_dtype(x.dtype), copy=False) / count).astype(x.dtype, copy=False)
            return np.broadcast_to(g.reshape(kept), x.shape)

        return value.reshape(reduced_shape(x, axis, keepdims)), (pull,)

    return rule


def _cut_long_sum(groups: list[tuple[bool, int]]) -> list[tuple[bool, int]]:
    """The groups with a long sum over the last of them cut in two, so that more than a few blocks have work."""
    summed, n = groups[-1]
    k = math.gcd(n, MAX_PARTIAL_SUMS)
    return [*groups[:-1], (True, k), (True, n // k)] if summed and n // k >= MAX_PARTIAL_SUMS else groups


def _group_axes(shape: Shape, target: Shape) -> list[tuple[bool, int]]:
    """The axes, neighbours of a kind taken together: whether they are summed, and how many elements they have."""
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


def find_outer_sizes(shape: Shape, x: Shape, y: Shape) -> tuple[int, int] | None:
    """(m, n) where x is a column of m and y a row of n elements of a table that the shape is; None where they are not."""
    x, y = ((1,) * (len(shape) - len(s)) + s for s in (x, y))
    for k in range(1, len(shape)):
        if x == shape[:k] + (1,) * (len(shape) - k) and y == (1,) * k + shape[k:]:
            return math.prod(shape[:k]), math.prod(shape[k:])
    return None
