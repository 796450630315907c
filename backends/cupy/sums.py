"""Sums over the rows and columns of a table: what broadcasting asks of gradients, in one pass over the memory each."""

import math
from typing import NamedTuple

import cupy
import numpy as np

from gradspec.backends.cupy.launch import FUNCTIONS, NULL, kernel, processors, wide_dtype, width
from gradspec.reference.tape import Array

Shape = tuple[int, ...]

WARPS = 8  # of a block, as in table.cu
FEW = 64  # rows that one strip of a table has at the least: with fewer, blocks have next to nothing to do
BLOCKS = 8  # for each multiprocessor, so that all are busy to the end
MOST = 65535  # blocks of a grid along its second and third axis


class Sums(NamedTuple):
    """Sums of a table, in what the kernels compute in: (batch, m), (batch, n) and (batch, n); None where not asked for."""

    by_row: Array
    by_column: Array
    plain: Array


def sums(
    g: Array,
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
) -> Sums:
    """Sums of the table t = g, or with a function of x and g: its pullback of g at x + bias, which dx gets as well.

    g, x, dx: (batch, m, n), contiguous; a: (m); b, bias: (n). by_row: the sums of t b over each row; by_column: of t a over
    each column; plain: of t. function: one of `ACTIVATIONS`, or "times" for t = x g.
    """
    batch, m, n = g.shape
    wide = wide_dtype(g.dtype)
    vector = width(n, g, x, dx)
    tiles = -(-n // (32 * max(vector, 4)))
    strips = min(_strips(m, tiles * min(batch, MOST)), MOST)
    shapes = [(batch, m, tiles), (batch, strips, n), (batch, strips, n)]
    asked = (by_row, by_column, plain)
    partial = [cupy.empty(s, wide) if wanted else None for s, wanted in zip(shapes, asked, strict=True)]
    arrays = [NULL if array is None else array for array in (g, x, bias, dx, a, b, *partial)]
    launch = kernel("table", f"sums_of_table<T,V,{FUNCTIONS.get(function, function)}>", g.dtype.name, vector)
    launch(
        (tiles, strips, min(batch, MOST)), (32 * WARPS,), (*arrays, np.int64(batch), np.int64(m), np.int64(n))
    )
    rows, *columns = partial
    return Sums(_over_tiles(rows), *map(_over_strips, columns))


def _strips(m: int, others: int) -> int:
    """Into how many strips of rows a table is cut, with so many blocks to each."""
    return max(1, min(-(-m // FEW), -(-BLOCKS * processors() // others)))


def _over_tiles(partial: Array | None) -> Array | None:
    if partial is None or partial.shape[2] == 1:
        return None if partial is None else partial[:, :, 0]
    batch, m, tiles = partial.shape
    found = sums(partial.reshape(1, batch * m, tiles), by_row=True).by_row
    return found.reshape(batch, m)


def _over_strips(partial: Array | None) -> Array | None:
    if partial is None or partial.shape[1] == 1:
        return None if partial is None else partial[:, 0]
    return sums(partial, by_column=True).by_column


def sum_to(g: Array, shape: Shape) -> Array:
    """G summed over the axes along which an argument of this shape was broadcast, and rounded to its own dtype once.

    Raises ValueError where no broadcast leads from the shape to that of g.
    """
    groups = _groups(g.shape, shape)
    total = cupy.ascontiguousarray(g)
    if not g.size:
        return cupy.zeros(shape, g.dtype)
    while any(summed for summed, _ in groups):
        i = max(k for k, (summed, _) in enumerate(groups) if summed)
        before, after = (math.prod(n for _, n in part) for part in (groups[:i], groups[i + 1 :]))
        table = total.reshape(*((1, before, groups[i][1]) if after == 1 else (before, groups[i][1], after)))
        found = sums(table, by_row=after == 1, plain=after != 1)
        total = found.by_row if after == 1 else found.plain
        groups = groups[:i] + groups[i + 1 :]
    return total.reshape(shape).astype(g.dtype, copy=False)


def _groups(shape: Shape, target: Shape) -> list[tuple[bool, int]]:
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


def outer(shape: Shape, x: Shape, y: Shape) -> tuple[int, int] | None:
    """(m, n) where x is a column of m and y a row of n elements of a table that the shape is; None where they are not."""
    x, y = ((1,) * (len(shape) - len(s)) + s for s in (x, y))
    for k in range(1, len(shape)):
        if x == shape[:k] + (1,) * (len(shape) - k) and y == (1,) * k + shape[k:]:
            return math.prod(shape[:k]), math.prod(shape[k:])
    return None
