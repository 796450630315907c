"""Ops of two arguments: one kernel for a value, whatever is broadcast, and no products stored as tables."""

import math
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

import cupy
import numpy as np

from gradspec.backends.cupy.elementwise import THREADS_PER_BLOCK, launch_elementwise
from gradspec.backends.cupy.launch import (
    CPP_BINARY_FUNCTIONS,
    are_supported,
    choose_vector_width,
    compile_kernel,
)
from gradspec.backends.cupy.rules import widen_rule
from gradspec.backends.cupy.sums import (
    find_outer_product_sizes,
    sum_table,
    sum_to_shape,
    sum_to_shape_by_kernel,
)
from gradspec.reference import OPS
from gradspec.reference.rule import VJP, Array, Pullback

Shape = tuple[int, ...]


class BroadcastLayout(NamedTuple):
    """A result as rows of n elements, and where each of its elements is in either argument.

    first_strides, second_strides: what a row and a column of the result add to an index into the first or
    second argument, as in pair.cu.
    """

    shape: Shape
    n: int
    first_strides: tuple[int, int]
    second_strides: tuple[int, int]


def find_broadcast_layout(x: Shape, y: Shape) -> BroadcastLayout | None:
    """Return the layout of two arguments of these shapes, broadcast.

    None where they do not broadcast, or where which one is broadcast changes more than once along the axes.
    """
    try:
        shape = np.broadcast_shapes(x, y)
    except ValueError:
        return None
    # Neighbouring axes taken together: which arguments have them, and how many elements they have.
    groups: list[tuple[tuple[bool, bool], int]] = []
    xs, ys = ((1,) * (len(shape) - len(s)) + s for s in (x, y))
    for n, x_length, y_length in zip(shape, xs, ys, strict=True):
        if n == 1:
            continue
        has = x_length == n, y_length == n
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
    """Return the function, a struct of functions.h, of two arrays; None where they have no layout."""
    layout = find_broadcast_layout(x.shape, y.shape)
    if layout is None:
        return None
    x, y = cupy.ascontiguousarray(x), cupy.ascontiguousarray(y)
    z = cupy.empty(layout.shape, x.dtype)
    # If all elements are one row, any width will do: the kernel takes the rest at the end one by one.
    whole = layout.n == z.size
    tables = [a for a, (_, column) in ((x, layout.first_strides), (y, layout.second_strides)) if column]
    vector = choose_vector_width(0 if whole else layout.n, *tables, z)
    launch = compile_kernel("pair", f"value_of_two<T,V,{function}>", z.dtype, vector)
    sizes = map(np.int64, (*layout.first_strides, *layout.second_strides, z.size, layout.n))
    launch((-(-z.size // (THREADS_PER_BLOCK * vector)),), (THREADS_PER_BLOCK,), (x, y, z, *sizes))
    return z


def binary_rule(name: str) -> Callable[..., VJP | None]:
    """Return the rule of an op of `BINARY_FUNCTIONS`."""
    make_pullbacks = {
        "add": _make_add_pullbacks,
        "subtract": _make_subtract_pullbacks,
        "multiply": _make_multiply_pullbacks,
    }.get(name)
    other = widen_rule(OPS[name].rule, sum_to_shape)

    def rule(x: Array, y: Array) -> VJP | None:
        value = launch_binary(CPP_BINARY_FUNCTIONS[name], x, y) if are_supported(x, y) else None
        if value is None:
            return None
        if make_pullbacks:
            return value, make_pullbacks(x, y)
        return value, tuple(_make_pullback(name, other, x, y, i) for i in (0, 1))

    return rule


def _make_pullback(name: str, other: Callable[..., VJP], x: Array, y: Array, i: int) -> Pullback:
    """Return the pullback to the i-th argument.

    Where something was broadcast it is that of the other rule, which sums before it rounds.
    """
    template = f"pull_of_two<T,V,{CPP_BINARY_FUNCTIONS[name]},{str(i == 0).lower()}>"

    def pull(g: Array) -> Array:
        if x.shape == y.shape == g.shape:
            return launch_elementwise("pair", template, x, y, g)
        return other(x, y)[1][i](g)  # type: ignore[index, misc]

    return pull


def _make_add_pullbacks(x: Array, y: Array) -> tuple[Pullback, Pullback]:
    return (lambda g: sum_to_shape(g, x.shape)), (lambda g: sum_to_shape(g, y.shape))


def _make_subtract_pullbacks(x: Array, y: Array) -> tuple[Pullback, Pullback]:
    return (lambda g: sum_to_shape(g, x.shape)), (lambda g: -sum_to_shape(g, y.shape))


def _make_multiply_pullbacks(x: Array, y: Array) -> Any:
    """Return both pullbacks of a product.

    For a column times a row one pass over g gives both gradients, and no product is stored.
    """
    shape = np.broadcast_shapes(x.shape, y.shape)
    for first, second, order in ((x, y, (0, 1)), (y, x, (1, 0))):
        if sizes := find_outer_product_sizes(shape, first.shape, second.shape):
            pull = _make_outer_pullback(first, second, sizes)
            return lambda g: itemgetter(*order)(pull(g))
    return (lambda g: _multiply_and_sum(g, y, x.shape)), (lambda g: _multiply_and_sum(g, x, y.shape))


def _make_outer_pullback(a: Array, b: Array, sizes: tuple[int, int]) -> Callable[[Array], tuple[Array, ...]]:
    a, b = cupy.ascontiguousarray(a), cupy.ascontiguousarray(b)

    def pull(g: Array) -> tuple[Array, ...]:
        table = cupy.ascontiguousarray(g).reshape(1, *sizes)
        sums = sum_table(table, a.dtype, a=a, b=b, by_row=True, by_column=True)
        return sums.by_row.reshape(a.shape), sums.by_column.reshape(b.shape)

    return pull


def _multiply_and_sum(g: Array, y: Array, shape: Shape) -> Array:
    """Return g * y summed to a shape; in one pass where y is a whole table and the shape a row of it."""
    ndim = len(shape)
    product = launch_binary(CPP_BINARY_FUNCTIONS["multiply"], g, y) if g.shape == shape else None
    if product is not None:
        return product
    if y.shape != g.shape or shape != g.shape[g.ndim - ndim :] or not ndim:
        return _multiply_and_sum_unfused(g, y, shape)
    n = math.prod(shape)
    gs, ys = (cupy.ascontiguousarray(t).reshape(1, -1, n) for t in (g, y))
    return sum_table(gs, g.dtype, x=ys, function="times", plain=True).plain.reshape(shape)


def _multiply_and_sum_unfused(g: Array, y: Array, shape: Shape) -> Array:
    """Return g * y summed to a shape, step by step.

    The products of 16-bit floats are float32, since they must not be rounded before they are summed.
    """
    if g.dtype.itemsize > 2:
        return sum_to_shape_by_kernel(g * y, shape)
    return sum_to_shape_by_kernel(g.astype(np.float32) * y, shape).astype(g.dtype)


def multiply_add(a: Array, b: Array, c: Array) -> VJP:
    """Compute `a * b + c` step by step: the rule where no kernel applies."""
    return a * b + c, (lambda g: g * b, lambda g: g * a, lambda g: g)


def fused_multiply_add(a: Array, b: Array, c: Array) -> VJP | None:
    """Compute `a * b + c` and its gradients; None unless a is a column and b and c are rows.

    All three gradients then come from one pass over the cotangent.
    """
    if not are_supported(a, b, c) or b.shape != c.shape:
        return None
    value, _ = widen_rule(multiply_add)(a, b, c)
    sizes = find_outer_product_sizes(value.shape, a.shape, b.shape)
    if sizes is None:
        return None
    x, y = cupy.ascontiguousarray(a), cupy.ascontiguousarray(b)

    def pull(g: Array) -> tuple[Array, ...]:
        table = cupy.ascontiguousarray(g).reshape(1, *sizes)
        sums = sum_table(table, a.dtype, a=x, b=y, by_row=True, by_column=True, plain=True)
        return tuple(d.reshape(s.shape) for d, s in zip(sums, (a, b, c), strict=True))

    return value, pull
