"""Ops that formulas are composed of: constants, sums so far, and elements by their places along an axis."""

from typing import Any

import numpy as np

from gradspec.reference.axes import normalize_axes
from gradspec.reference.calls import (
    Call,
    Choices,
    IntegerArrayBelow,
    Shape,
    draw_along_axis,
    draw_axis,
    draw_shape,
)
from gradspec.reference.declaration import op
from gradspec.reference.domains import Index, Real
from gradspec.reference.kink_distances import ties_along_axis
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array


@op("()->()")
def stop_gradient(x: Real) -> VJP:
    """Return a copy of x as a constant: what is computed from it has no gradient with respect to x."""
    return x.copy() if hasattr(x, "copy") else x, None


# Sums so far


def _draw_cumulative_sum(choose: Choices) -> Call:
    x = draw_shape(choose, 1)
    axis = None if len(x) == 1 and choose.of([False, True]) else draw_axis(choose, len(x))
    return Call((x,), {"axis": axis, "include_initial": choose.of([False, True])})


@record
def _accumulate(x: Array, *, axis: int) -> VJP:
    """Return the sums so far; their adjoint has those from the other end."""
    return np.add.accumulate(x, axis=axis), (
        lambda g: np.flip(_accumulate(np.flip(g, axis), axis=axis), axis),
    )


@op(_draw_cumulative_sum)
def cumulative_sum(x: Real, *, axis: int | None = None, include_initial: bool = False) -> VJP:
    """Return the sums of all elements up to each along an axis.

    Args:
        x: of one dimension or more.
        axis: the axis; it may be left out of one dimension.
        include_initial: whether 0, the sum of none, comes first; the axis is then longer by one.
    """
    if axis is None and x.ndim != 1:
        raise ValueError(
            f"cumulative_sum: x has shape {x.shape}; only of one dimension the axis may be left out"
        )
    if not x.ndim:
        raise ValueError("cumulative_sum: x has no axis to add along")
    (along,) = normalize_axes(0 if axis is None else axis, x.ndim)
    y = _accumulate(x, axis=along)
    if include_initial:
        zero = np.zeros((*x.shape[:along], 1, *x.shape[along + 1 :]), x.dtype)
        y = np.concat([zero, y], axis=along)
    after_first = (*(slice(None),) * along, slice(1, None))

    def pull(g: Array) -> Array:
        g = g[after_first] if include_initial else g
        return np.flip(_accumulate(np.flip(g, along), axis=along), along)

    return y, (pull,)


# Places along an axis


def _draw_take_along_axis(choose: Choices) -> Call:
    x, axis = _draw_shape_and_axis(choose)
    i = axis % len(x)
    taken = (*x[:i], choose.size(_count(x[:i] + x[i + 1 :])), *x[i + 1 :])
    if choose.of([False, False, True]):  # one of the two has a single row for all of the other
        x, taken = (_keep_axis(x, i), taken) if choose.of([False, True]) else (x, _keep_axis(taken, i))
    return Call((x, IntegerArrayBelow(taken, x[i])), {"axis": axis})


def _keep_axis(shape: Shape, axis: int) -> Shape:
    return tuple(n if i == axis else 1 for i, n in enumerate(shape))


def _draw_shape_and_axis(choose: Choices) -> tuple[Shape, int]:
    """Return a shape and one of its axes, which is not empty."""
    x = draw_shape(choose, 1)
    axis = draw_axis(choose, len(x))
    return tuple(n or 1 if i == axis % len(x) else n for i, n in enumerate(x)), axis


def _count(lengths: Shape) -> int:
    return int(np.prod([n or 1 for n in lengths]))


@record
def _gather(x: Array, *, indices: Array, axis: int) -> VJP:
    return np.take_along_axis(x, indices, axis), (
        lambda g: _scatter_along_axis(g, indices=indices, axis=axis, shape=x.shape),
    )


@record
def _scatter_along_axis(g: Array, *, indices: Array, axis: int, shape: Shape) -> VJP:
    """Return zeros with g added where it was taken from, at times repeatedly: the adjoint of `_gather`."""
    key: list[Any] = list(np.indices(g.shape, sparse=True))
    key = [k % n if i != axis else indices for i, (k, n) in enumerate(zip(key, shape, strict=True))]
    x = np.zeros_like(g, shape=shape)
    np.add.at(x, tuple(key), g)
    return x, (lambda h: _gather(h, indices=indices, axis=axis),)


@op(_draw_take_along_axis)
def take_along_axis(x: Real, indices: Index, *, axis: int = -1) -> VJP:
    """Return, along an axis, the elements of x at the indices, each row of which has a row of x.

    Args:
        x: of one dimension or more.
        indices: integers below the length of the axis, of as many dimensions as x; their other axes
            broadcast with those of x.
        axis: the axis.
    """
    if np.ndim(indices) != x.ndim or not x.ndim:
        raise ValueError(
            f"take_along_axis: x {x.shape} and indices {np.shape(indices)} must have as many dimensions, "
            "one or more"
        )
    (along,) = normalize_axes(axis, x.ndim)
    indices = np.array(indices)  # nobody overwrites a copy before the backward pass
    return _gather(x, indices=indices, axis=along), (
        lambda g: _scatter_along_axis(g, indices=indices, axis=along, shape=x.shape),
        None,
    )


def _draw_index_add(choose: Choices) -> Call:
    x, axis = _draw_shape_and_axis(choose)
    i = axis % len(x)
    count = choose.size(_count(x[:i] + x[i + 1 :]))
    source = (*x[:i], count, *x[i + 1 :])
    return Call((x, IntegerArrayBelow((count,), x[i]), source), {"axis": axis})


@record
def _add_at(x: Array, source: Array, *, key: Any) -> VJP:
    y = x.copy()
    np.add.at(y, key, source)
    return y, (lambda g: g, lambda g: g[key])


@op(_draw_index_add)
def index_add(x: Real, index: Index, source: Real, *, axis: int = 0) -> VJP:
    """Return x with the slices of source added at the places that index names along an axis.

    A place may be named several times.

    Args:
        x: of one dimension or more.
        index: integers below the length of the axis, of one dimension.
        source: of the shape of x, with the length of index along the axis.
        axis: the axis.
    """
    (along,) = normalize_axes(axis, x.ndim) or (0,)
    fitting = (*x.shape[:along], *np.shape(index), *x.shape[along + 1 :])
    if not x.ndim or np.ndim(index) != 1 or source.shape != fitting:
        raise ValueError(
            f"index_add: x {x.shape}, index {np.shape(index)} and source {source.shape} do not fit along "
            f"axis {axis}; index has one dimension, and source the shape of x with its length along the axis"
        )
    places = (*(slice(None),) * along, np.array(index))  # nobody overwrites a copy
    return _add_at(x, source, key=places), (lambda g: g, None, lambda g: g[places])


# Order


def _draw_sort(choose: Choices) -> Call:
    call = draw_along_axis(choose)
    return Call(call.shapes, {**call.keywords, "descending": choose.of([False, True])})


def _order(x: Array, axis: int, descending: bool) -> Array:
    """Return where the sorted elements come from: of equal ones the first comes first, NaN is the largest."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)


@record
def _argsort(x: Array, *, axis: int, descending: bool) -> VJP:
    return _order(x, axis, descending), None


@op(_draw_sort, kinks=ties_along_axis)
def sort(x: Real, *, axis: int = -1, descending: bool = False) -> VJP:
    """Return the elements of x in order along an axis, and the indices that they have in x.

    The order is stable: equal elements stay in their order. NaN counts as larger than any number.

    Args:
        x: of one dimension or more.
        axis: the axis.
        descending: whether the largest element comes first.
    """
    (along,) = normalize_axes(axis, x.ndim)
    indices = _argsort(x, axis=along, descending=descending)
    order = indices if isinstance(indices, np.ndarray) else indices.data
    places = np.argsort(order, axis=along)  # where each element of x goes
    return (_gather(x, indices=order, axis=along), indices), (
        lambda g, _: _gather(g, indices=places, axis=along),
    )


# Edges


def _draw_pad(choose: Choices) -> Call:
    x = draw_shape(choose)
    widths = tuple((choose.of([0, 1, 2]), choose.of([0, 2, 1])) for _ in x)
    return Call((x,), {"pad_width": widths, "value": choose.of([0.0, -1.5])})


@record
def _put_inside(x: Array, *, key: Any, shape: Shape, value: float) -> VJP:
    y = np.full_like(x, value, shape=shape)
    y[key] = x
    return y, (lambda g: g[key],)


@op(_draw_pad)
def pad(x: Real, *, pad_width: tuple[tuple[int, int], ...], value: float = 0.0) -> VJP:
    """Return x within a larger array of one value.

    Args:
        x: of any shape.
        pad_width: how many elements come before and after x, a pair for each axis.
        value: the value of these elements.
    """
    if len(pad_width) != x.ndim or any(min(pair) < 0 for pair in pad_width):
        raise ValueError(
            f"pad: pad_width is {pad_width}; it must be a pair of lengths, none below 0, for each axis of x "
            f"{x.shape}"
        )
    inside = tuple(slice(before, before + n) for (before, _), n in zip(pad_width, x.shape, strict=True))
    shape = tuple(before + n + after for (before, after), n in zip(pad_width, x.shape, strict=True))
    return _put_inside(x, key=inside, shape=shape, value=value), (lambda g: g[inside],)
