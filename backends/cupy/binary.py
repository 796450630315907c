"""Ops of two arguments: values by one kernel each, whatever is broadcast, and products of which no table is stored."""

import math
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

import cupy
import numpy as np

from gradspec.backends.cupy.elementwise import THREADS_PER_BLOCK, launch_elementwise
from gradspec.backends.cupy.launch import BINARY_FUNCTIONS, are_supported, choose_vector_width, compile_kernel
from gradspec.backends.cupy.rules import widen_rule
from gradspec.backends.cupy.sums import find_outer_sizes, sum_table, sum_to_shape, sum_to_shape_by_kernel
from gradspec.reference import OPS
from gradspec.reference.rule import VJP, Array, Pullback

Shape = tuple[int, ...]


class BroadcastLayout(NamedTuple):
    """A result as rows of n elements, and where an element of either argument is.

    first, second: what its row and its column add to an index, as in pair.cu.
    """

    shape: Shape
    n: int
    first_strides: tuple[int, int]
    second_strides: tuple[int, int]


def find_broadcast_layout(x: Shape, y: Shape) -> BroadcastLayout | None:
    """The table of two arguments of these shapes, broadcast.

    None where no broadcast fits, or where what is broadcast changes more than once on the way through the axes.
    """
    try:
        shape = np.broadcast_shapes(x, y)
    except ValueError:
        return None
    # Which arguments have some neighbouring axes, and how many elements those are.
    groups: list[tuple[tuple[bool, bool], int]] = []
    xs, ys = ((1,) * (len(shape) - len(s)) + s for s in (x, y))
    for n, *given in zip(shape, xs, ys, strict=True):
        if n == 1:
            continue
        has = given[0] == n, given[1] == n
        if groups and groups[-1][0] == has:
            groups[-1] = has, groups[-1][1] * n
        else:
            groups.append((has, n))
    if len(groups) > 2:
        return None
    (rows, _), (columns, n) = ([((False, False), 1)] * 2 + groups)[-2:]
    steps = [
        ((n if column else 1) if row else 0, int(column)) for row, column in zip(rows, columns, strict=True)
    ]
    return BroadcastLayout(shape, n, *steps)


def launch_binary(function: str, x: Array, y: Array) -> Array | None:
    """The function, a struct of functions.h, of two arrays; None where they have no table."""
    table = find_broadcast_layout(x.shape, y.shape)
    if table is None:
        return None
    x, y = cupy.ascontiguousarray(x), cupy.ascontiguousarray(y)
    z = cupy.empty(table.shape, x.dtype)
    whole = table.n == z.size  # then what is left over at the end goes one by one
    tables = [a for a, (_, column) in ((x, table.first_strides), (y, table.second_strides)) if column]
    vector = choose_vector_width(0 if whole else table.n, *tables, z)
    launch = compile_kernel("pair", f"value_of_two<T,V,{function}>", z.dtype, vector)
    sizes = map(np.int64, (*table.first_strides, *table.second_strides, z.size, table.n))
    launch((-(-z.size // (THREADS_PER_BLOCK * vector)),), (THREADS_PER_BLOCK,), (x, y, z, *sizes))
    return z


def binary_rule(name: str) -> Callable[..., VJP | None]:
    """The rule of an op of `PAIRS`."""
    pulls = {
        "add": _make_add_pullbacks,
        "subtract": _make_subtract_pullbacks,
        "multiply": _make_multiply_pullbacks,
    }.get(name)
    other = widen_rule(OPS[name].rule, sum_to_shape)

    def rule(x: Array, y: Array) -> VJP | None:
        value = launch_binary(BINARY_FUNCTIONS[name], x, y) if are_supported(x, y) else None
        if value is None:
            return None
        return value, pulls(x, y) if pulls else tuple(_make_pullback(name, other, x, y, i) for i in (0, 1))

    return rule


def _make_pullback(name: str, other: Callable[..., VJP], x: Array, y: Array, i: int) -> Pullback:
    """To the i-th argument; where it was broadcast by the other rule, which sums before it rounds."""

    def pull(g: Array) -> Array:
        if x.shape == y.shape == g.shape:
            return launch_elementwise(
                "pair", f"pull_of_two<T,V,{BINARY_FUNCTIONS[name]},{str(i == 0).lower()}>", x, y, g
            )
        return other(x, y)[1][i](g)  # type: ignore[index, misc]

    return pull


def _make_add_pullbacks(x: Array, y: Array) -> tuple[Pullback, Pullback]:
    return (lambda g: sum_to_shape(g, x.shape)), (lambda g: sum_to_shape(g, y.shape))


def _make_subtract_pullbacks(x: Array, y: Array) -> tuple[Pullback, Pullback]:
    return (lambda g: sum_to_shape(g, x.shape)), (lambda g: -sum_to_shape(g, y.shape))


def _make_multiply_pullbacks(x: Array, y: Array) -> Any:
    """A column times a row: both gradients from one pass over g, and no product is stored."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    for first, second, order in ((x, y, (0, 1)), (y, x, (1, 0))):
        if sizes := find_outer_sizes(shape, first.shape, second.shape):
            pull = _make_outer_pullback(first, second, sizes)
            return lambda g: itemgetter(*order)(pull(g))
    return (lambda g: _multiply_and_sum(g, y, x.shape)), (lambda g: _multiply_and_sum(g, x, y.shape))


def _make_outer_pullback(a: Array, b: Array, sizes: tuple[int, int]) -> Callable[[Array], tuple[Array, ...]]:
    a, b = cupy.ascontiguousarray(a), cupy.ascontiguousarray(b)

    def pull(g: Array) -> tuple[Array, ...]:
        table = cupy.ascontiguousarray(g).reshape(1, *sizes)
        found = sum_table(table, a.dtype, a=a, b=b, by_row=True, by_column=True)
        return found.by_row.reshape(a.shape), found.by_column.reshape(b.shape)

    return pull


def _multiply_and_sum(g: Array, y: Array, shape: Shape) -> Array:
    """The product of g and y summed to a shape; in one pass where y is a whole table and the shape a row of it."""
    ndim = len(shape)
    product = launch_binary(BINARY_FUNCTIONS["multiply"], g, y) if g.shape == shape else None
    if product is not None:
        return product
    if y.shape != g.shape or shape != g.shape[g.ndim - ndim :] or not ndim:
        return _multiply_and_sum_unfused(g, y, shape)
    n = math.prod(shape)
    gs, ys = (cupy.ascontiguousarray(t).reshape(1, -1, n) for t in (g, y))
    return sum_table(gs, g.dtype, x=ys, function="times", plain=True).plain.reshape(shape)


def _multiply_and_sum_unfused(g: Array, y: Array, shape: Shape) -> Array:
    """As it is written, but for 16-bit floats, whose products must not be rounded before they are summed."""
    if g.dtype.itemsize > 2:
        return sum_to_shape_by_kernel(g * y, shape)
    return sum_to_shape_by_kernel(g.astype(np.float32) * y, shape).astype(g.dtype)


def multiply_add(a: Array, b: Array, c: Array) -> VJP:
    """The rule of `a * b + c` as it is written."""
    return a * b + c, (lambda g: g * b, lambda g: g * a, lambda g: g)


def fused_multiply_add(a: Array, b: Array, c: Array) -> VJP | None:
    """Where a is a column and b and c are rows, all three gradients come from one pass over the cotangent."""
    if not are_supported(a, b, c) or b.shape != c.shape:
        return None
    value, _ = widen_rule(multiply_add)(a, b, c)
    sizes = find_outer_sizes(value.shape, a.shape, b.shape)
    if sizes is None:
        return None
    x, y = cupy.ascontiguousarray(a), cupy.ascontiguousarray(b)

    def pull(g: Array) -> tuple[Array, ...]:
        table = cupy.ascontiguousarray(g).reshape(1, *sizes)
        found = sum_table(table, a.dtype, a=x, b=y, by_row=True, by_column=True, plain=True)
        return tuple(d.reshape(s.shape) for d, s in zip(found, (a, b, c), strict=True))

    return value, pull
