"""Ops that move elements and compute nothing."""

import itertools
import math
from typing import Any

import numpy as np

from gradspec.reference.axes import Axes, fit_axes, normalize_axes
from gradspec.reference.calls import (
    Call,
    Choices,
    Shape,
    count_max_elements,
    draw_axes,
    draw_axis,
    draw_axis_signs,
    draw_broadcastable_shape,
    draw_permutation,
    draw_shape,
)
from gradspec.reference.declaration import op
from gradspec.reference.domains import Real
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array


def _draw_reshape(choose: Choices) -> Call:
    x = draw_shape(choose)
    n, cut = math.prod(x), choose.integer(0, len(x))
    target = choose.of([(n,), x[::-1], (*x, 1), (math.prod(x[:cut]), math.prod(x[cut:])), (1, *x)])
    leave_last_open = choose.of([False, True]) and n > 0 and len(target) > 0
    return Call((x,), {"shape": (*target[:-1], -1) if leave_last_open else target})


@op(_draw_reshape)
def reshape(x: Real, *, shape: Shape) -> VJP:
    # NumPy takes any negative length for -1.
    if np.min(shape, initial=-1) < -1:
        raise ValueError(
            f"reshape: invalid shape {shape}; at most one dimension may be -1, no other may be negative"
        )
    return np.reshape(x, shape), (lambda g: np.reshape(g, x.shape),)


def _draw_permute_dims(choose: Choices) -> Call:
    x = draw_shape(choose)
    return Call((x,), {"axes": draw_axis_signs(choose, draw_permutation(choose, len(x)), len(x))})


@op(_draw_permute_dims)
def permute_dims(x: Real, *, axes: tuple[int, ...]) -> VJP:
    inverse = tuple(np.argsort(normalize_axes(axes, x.ndim)).tolist())
    return np.permute_dims(x, axes), (lambda g: np.permute_dims(g, inverse),)


@op("(m,n)->(n,m)")
def matrix_transpose(x: Real) -> VJP:
    return np.matrix_transpose(x), (np.matrix_transpose,)


def _draw_expand_dims(choose: Choices) -> Call:
    x = draw_shape(choose, high=3)
    count = choose.integer(1, 2)
    axes = draw_axis_signs(choose, draw_permutation(choose, len(x) + count)[:count], len(x) + count)
    return Call((x,), {"axis": axes[0] if count == 1 else axes})


@op(_draw_expand_dims)
def expand_dims(x: Real, *, axis: int | tuple[int, ...]) -> VJP:
    return np.expand_dims(x, axis), (lambda g: np.reshape(g, x.shape),)


def _draw_squeeze(choose: Choices) -> Call:
    call = _draw_expand_dims(choose)
    axis = call.keywords["axis"]
    x: Any = call.shapes[0]
    return Call((np.expand_dims(np.empty(x), axis).shape,), {"axis": axis})


@op(_draw_squeeze)
def squeeze(x: Real, *, axis: int | tuple[int, ...]) -> VJP:
    return np.squeeze(x, fit_axes(axis, x.ndim)), (lambda g: np.reshape(g, x.shape),)


def _draw_broadcast_to(choose: Choices) -> Call:
    full = draw_shape(choose)
    return Call((draw_broadcastable_shape(choose, full),), {"shape": full})


@op(_draw_broadcast_to)
def broadcast_to(x: Real, *, shape: Shape) -> VJP:
    return np.broadcast_to(x, shape), (lambda g: g,)


def _draw_flip(choose: Choices) -> Call:
    x = draw_shape(choose)
    return Call((x,), {"axis": draw_axes(choose, len(x))})


@op(_draw_flip)
def flip(x: Real, *, axis: Axes = None) -> VJP:
    axis = fit_axes(axis, x.ndim)
    return np.flip(x, axis), (lambda g: np.flip(g, axis),)


def _draw_concat(choose: Choices) -> Call:
    x = draw_shape(choose, 1)
    axis = draw_axis(choose, len(x))
    i = axis % len(x)
    lengths = [x[i], *(choose.size(count_max_elements(*x)) for _ in range(choose.integer(0, 3)))]
    flatten = choose.of([False, False, False, True])
    return Call(tuple((*x[:i], n, *x[i + 1 :]) for n in lengths), {"axis": None if flatten else axis})


@op(_draw_concat)
def concat(*xs: Real, axis: int | None = 0) -> VJP:
    """Return the arrays joined along an axis; flattened first if the axis is None."""
    y = np.concat(xs, axis=axis)

    def pull(g: Array) -> tuple[Array, ...]:
        i = 0 if axis is None else axis % y.ndim
        lengths = [math.prod(x.shape) if axis is None else x.shape[i] for x in xs]
        ends = itertools.accumulate(lengths, initial=0)
        parts = [g[(slice(None),) * i + (slice(a, b),)] for a, b in itertools.pairwise(ends)]
        return tuple(np.reshape(part, x.shape) for part, x in zip(parts, xs, strict=True))

    return y, pull


def _draw_stack(choose: Choices) -> Call:
    x = draw_shape(choose, high=3)
    return Call((x,) * choose.of([1, 2, 3, 5]), {"axis": draw_axis(choose, len(x) + 1)})


@op(_draw_stack)
def stack(*xs: Real, axis: int = 0) -> VJP:
    y = np.stack(xs, axis=axis)
    before = (slice(None),) * (axis % y.ndim)
    return y, (lambda g: tuple(g[(*before, i)] for i in range(len(xs))))


def _draw_unstack(choose: Choices) -> Call:
    x = draw_shape(choose, 1)
    axis = draw_axis(choose, len(x))
    return Call((tuple(n or 1 if i == axis % len(x) else n for i, n in enumerate(x)),), {"axis": axis})


@op(_draw_unstack)
def unstack(x: Real, *, axis: int = 0) -> VJP:
    """Return the slices of x along an axis, a tuple of as many as it is long: each without the axis."""
    (along,) = normalize_axes(axis, x.ndim)
    before = (slice(None),) * along
    return tuple(x[(*before, i)] for i in range(x.shape[along])), (lambda *gs: np.stack(gs, axis=along),)


def _draw_getitem(choose: Choices) -> Call:
    x = draw_shape(choose)
    if choose.of(["places", "places", "mask"]) == "mask":
        return Call((x,), {"key": _draw_mask(choose, x[: choose.integer(0, len(x))])})
    front = choose.integer(choose.integer(0, min(1, len(x))), len(x))
    back = choose.integer(front, len(x))
    has_mask = choose.of([False, False, True]) and len(x) > 0
    mask_axis = choose.integer(0, len(x) - 1) if has_mask else None
    # Beside a mask there are only single integers, no integer arrays.
    rank = choose.of([1, 1, 2, 0]) if mask_axis is None else 0
    index_shape = tuple(choose.of([1, 2, 3, 2, 5, 3, 2, 0]) for _ in range(rank))
    mixed = ["integers", "slice", "integer", "integers"]
    kinds = choose.of([["slice", "slice", "integer"], mixed, mixed])

    def draw_part(i: int) -> Any:
        if i == mask_axis:
            return _draw_mask(choose, x[i : i + 1])
        return _draw_index(choose, x[i], index_shape, kinds)

    key: list[Any] = [draw_part(i) for i in range(front)]
    if back < len(x) or choose.of([False, True]):
        key += [Ellipsis, *(draw_part(i) for i in range(back, len(x)))]
    for _ in range(choose.of([0, 1, 0, 0, 2])):
        key.insert(choose.integer(0, len(key)), None)
    return Call((x,), {"key": tuple(key)})


def _draw_mask(choose: Choices, shape: Shape) -> Array:
    return np.reshape([choose.of([True, False]) for _ in range(math.prod(shape))], shape) == 1


def _draw_index(choose: Choices, n: int, index_shape: Shape, kinds: list[str]) -> Any:
    """Return an index of an axis of length n: a slice, an integer or an array of integers.

    Args:
        choose: the source of choices.
        n: the length of the axis.
        index_shape: what the shape of an array of integers broadcasts to.
        kinds: the kinds to choose from: "slice", "integer" and "integers".
    """
    kind = choose.of(kinds) if n else "slice"
    if kind == "slice":
        return _draw_slice(choose, n)
    if kind == "integer":
        return choose.integer(-n, n - 1)
    shape = draw_broadcastable_shape(choose, index_shape)
    # Few, so that some recur.
    places = [choose.integer(0, n - 1) for _ in range(choose.of([1, 2, 3]))]
    indices = [choose.of(places) - choose.of([0, n]) for _ in range(math.prod(shape))]
    return np.reshape(indices, shape).astype(np.int64)


def _draw_slice(choose: Choices, n: int) -> slice:
    """Return a slice of an axis of length n: all of it, between any two places, or of one element or more."""
    how = choose.of(["places", "all", "elements"] if n else ["places", "all"])
    if how == "all":
        return slice(None, None, choose.of([-1, None, -1, 2]))
    if how == "places":
        start = choose.of([None, choose.integer(-n, max(n - 1, 0))])
        # Most slices between two places are empty.
        stop = choose.of([None, None, None, choose.integer(-n, n)])
        return slice(start, stop, choose.of([None, 2, -1, -2, 3]))
    start, step = choose.integer(0, n - 1), choose.of([2, 3, -2, 1])
    most = (n - 1 - start if step > 0 else start) // abs(step)
    last, direction = start + step * choose.of([0, choose.integer(0, most)]), step // abs(step)
    # It may end short of the next element.
    stop = last + direction * choose.integer(1, abs(step))
    return slice(start - choose.of([0, n]), stop if 0 <= stop < n else None, step)


@record
def _scatter(g: Array, *, key: Any, shape: Shape) -> VJP:
    """Return zeros of the shape with g added at the key: the adjoint of getitem.

    Where an index recurs, g is added each time.
    """

    def may_repeat(k: Any) -> bool:
        return bool(np.ndim(k)) and not isinstance(k, slice) and np.asarray(k).dtype != np.bool_

    x = np.zeros_like(g, shape=shape)
    if any(map(may_repeat, _as_tuple(key))):
        np.add.at(x, key, g)
    else:
        x[key] = g
    return x, (lambda h: h[key],)


def _as_tuple(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


@op(_draw_getitem)
def getitem(x: Real, *, key: Any) -> VJP:
    """Return x[key].

    The key may have integers, slices with steps, None, Ellipsis, integer arrays (an index may recur) and
    boolean masks.
    """
    return x[key], (lambda g: _scatter(g, key=key, shape=x.shape),)
