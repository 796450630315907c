"""NumPy's functions of variables that are no ops: what reads shapes, makes constants, or is made of ops.

Those made of ops are written in NumPy's functions that are ops themselves, so that they are recorded.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradspec.reference.axes import Axes, normalize_axes
from gradspec.reference.op import OPS
from gradspec.reference.rule import Array

READING_SHAPES = {
    np.shape,
    np.ndim,
    np.size,
    np.result_type,
    np.iscomplexobj,
    np.isrealobj,
}
"""Functions that return no array: they are applied to the arrays of the variables."""

MAKING_CONSTANTS = {np.zeros_like, np.ones_like, np.full_like, np.empty_like, np.any, np.all, np.isclose}
"""Functions whose results are arrays without a derivative."""


def _permute(x: Array, axes: Sequence[int]) -> Array:
    return np.permute_dims(x, tuple(axes))


def swapaxes(x: Array, axis1: int, axis2: int) -> Array:
    axes = list(range(x.ndim))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return _permute(x, axes)


def moveaxis(x: Array, source: Any, destination: Any) -> Array:
    sources, targets = normalize_axes(source, x.ndim), normalize_axes(destination, x.ndim)
    order = [i for i in range(x.ndim) if i not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        order.insert(target, axis)
    return _permute(x, order)


def ravel(x: Array) -> Array:
    return np.reshape(x, (-1,))


def take(x: Array, indices: Any, axis: int | None = None) -> Array:
    if axis is None:
        return ravel(x)[indices]
    return x[(*(slice(None),) * normalize_axes(axis, x.ndim)[0], indices)]


def split(x: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Return parts of x along an axis: as many as an integer says, all alike, or cut at a list of places."""
    n = x.shape[axis]
    if isinstance(indices_or_sections, int):
        if n % indices_or_sections:
            raise ValueError(f"split: {n} elements cannot be divided into {indices_or_sections} equal parts")
        cuts = range(0, n + 1, max(n // indices_or_sections, 1))
    else:
        cuts = [0, *indices_or_sections, n]  # type: ignore[assignment]
    before = (slice(None),) * normalize_axes(axis, x.ndim)[0]
    return [x[(*before, slice(a, b))] for a, b in itertools.pairwise(cuts)]


def repeat(x: Array, repeats: Any, axis: int | None = None) -> Array:
    y = ravel(x) if axis is None else x
    along = 0 if axis is None else axis
    return take(y, np.repeat(np.arange(y.shape[along]), repeats), along)


def tile(x: Array, reps: Any) -> Array:
    times = tuple(reps) if isinstance(reps, Sequence) else (reps,)
    rank = max(len(times), x.ndim)
    y = np.reshape(x, (1,) * (rank - x.ndim) + x.shape)
    for axis, count in enumerate((1,) * (rank - len(times)) + times):
        y = take(y, np.tile(np.arange(y.shape[axis]), count), axis)
    return y


def roll(x: Array, shift: Any, axis: Axes = None) -> Array:
    if axis is None:
        return np.reshape(roll(ravel(x), shift, 0), x.shape)
    shifts, axes = np.broadcast_arrays(shift, axis)
    for amount, along in zip(shifts.ravel().tolist(), axes.ravel().tolist(), strict=True):
        x = take(x, np.roll(np.arange(x.shape[along]), amount), along)
    return x


def diff(x: Array, n: int = 1, axis: int = -1) -> Array:
    for _ in range(n):
        length = x.shape[axis]
        x = take(x, np.arange(1, length), axis) - take(x, np.arange(length - 1), axis)
    return x


def diagonal(x: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    y = moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = y.shape[-2:]
    start = max(-offset, 0)
    i = np.arange(start, max(min(rows, columns - offset), start))
    return y[(..., i, i + offset)]


def trace(x: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    return np.sum(diagonal(x, offset, axis1, axis2), axis=-1)


def _below_diagonal(x: Array, k: int) -> Array:
    rows, columns = x.shape[-2:]
    return np.tri(rows, columns, k, dtype=np.bool_)


def tril(x: Array, k: int = 0) -> Array:
    return np.where(_below_diagonal(x, k), x, np.zeros((), x.dtype))


def triu(x: Array, k: int = 0) -> Array:
    return np.where(_below_diagonal(x, k - 1), np.zeros((), x.dtype), x)


def std(x: Array, axis: Axes = None, *, ddof: float = 0, keepdims: bool = False) -> Array:
    return np.sqrt(np.var(x, axis=axis, correction=ddof, keepdims=keepdims))


def outer(x: Array, y: Array) -> Array:
    return np.reshape(x, (-1, 1)) * np.reshape(y, (1, -1))


def vecdot(x: Array, y: Array, /, *, axis: int = -1) -> Array:
    return np.sum(x * y, axis=axis)


def dot(x: Array, y: Array) -> Array:
    if np.ndim(x) == 0 or np.ndim(y) == 0:
        return x * y
    return np.matmul(x, y) if np.ndim(y) == 1 or x.ndim <= 2 >= y.ndim else tensordot(x, y, ([-1], [-2]))


def inner(x: Array, y: Array) -> Array:
    return x * y if np.ndim(x) == 0 or np.ndim(y) == 0 else tensordot(x, y, ([-1], [-1]))


def tensordot(x: Array, y: Array, axes: Any = 2) -> Array:
    """Return the sum of products over pairs of axes: the last and first `axes`, or two lists of them."""
    of_x, of_y = (range(x.ndim - axes, x.ndim), range(axes)) if isinstance(axes, int) else axes
    of_x, of_y = normalize_axes(of_x, x.ndim), normalize_axes(of_y, y.ndim)
    left = [i for i in range(x.ndim) if i not in of_x]
    right = [i for i in range(y.ndim) if i not in of_y]
    n = math.prod(x.shape[i] for i in of_x)
    rows = np.reshape(_permute(x, (*left, *of_x)), (math.prod(x.shape[i] for i in left), n))
    columns = np.reshape(_permute(y, (*of_y, *right)), (n, math.prod(y.shape[i] for i in right)))
    return np.reshape(rows @ columns, (*(x.shape[i] for i in left), *(y.shape[i] for i in right)))


def vector_norm(x: Array, *, axis: Axes = None, keepdims: bool = False, ord: float = 2) -> Array:
    if ord != 2:
        raise TypeError(f"vector_norm of order {ord} has no rule for tensors; only the one of order 2 has")
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


def norm(x: Array, ord: Any = None, axis: Axes = None, keepdims: bool = False) -> Array:
    if ord not in (None, "fro") and not (ord == 2 and (x.ndim == 1 or isinstance(axis, int))):
        raise TypeError(f"a norm of order {ord} has no rule for tensors; only the root of the sum of squares")
    return vector_norm(x, axis=axis, keepdims=keepdims)


def cumsum(x: Array, axis: int | None = None) -> Array:
    return np.cumulative_sum(ravel(x) if axis is None else x, axis=0 if axis is None else axis)


def pad(x: Array, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Array:
    """Return x within an array of one value; NumPy's other modes, and a value for each edge, have no rule."""
    if mode != "constant" or np.ndim(constant_values):
        raise TypeError("np.pad has a rule for tensors only where all that it adds is one constant")
    widths = tuple(map(tuple, np.broadcast_to(pad_width, (x.ndim, 2)).tolist()))
    return OPS["pad"](x, pad_width=widths, value=constant_values)


def einsum(subscripts: str, *xs: Array) -> Array:
    return OPS["einsum"](xs, subscripts=subscripts)


def sort(x: Array, axis: int | None = -1, kind: str | None = None, *, stable: bool | None = None) -> Array:
    """Return the sorted elements; the order is stable, which no other kind forbids."""
    return OPS["sort"](ravel(x), axis=-1)[0] if axis is None else OPS["sort"](x, axis=axis)[0]


def argsort(x: Array, axis: int | None = -1, kind: str | None = None, *, stable: bool | None = None) -> Array:
    return OPS["sort"](ravel(x), axis=-1)[1] if axis is None else OPS["sort"](x, axis=axis)[1]


def sinh(x: Array) -> Array:
    e = np.expm1(x)
    return (e + e / (e + 1)) / 2


MADE_OF_OPS: dict[Any, Callable[..., Any]] = {
    np.swapaxes: swapaxes,
    np.moveaxis: moveaxis,
    np.ravel: ravel,
    np.take: take,
    np.split: split,
    np.repeat: repeat,
    np.tile: tile,
    np.roll: roll,
    np.diff: diff,
    np.diagonal: diagonal,
    np.trace: trace,
    np.tril: tril,
    np.triu: triu,
    np.std: std,
    np.cumsum: cumsum,
    np.pad: pad,
    np.einsum: einsum,
    np.sort: sort,
    np.argsort: argsort,
    np.outer: outer,
    np.dot: dot,
    np.inner: inner,
    np.tensordot: tensordot,
    np.vecdot: vecdot,
    np.copy: lambda x: x * 1,
    np.astype: lambda x, dtype, /: x.astype(dtype),
    np.hstack: lambda xs: np.concat(xs, axis=0 if xs[0].ndim == 1 else 1),
    np.vstack: lambda xs: np.concat([np.reshape(x, (1, -1)) if np.ndim(x) < 2 else x for x in xs]),
    np.linalg.matmul: lambda x, y, /: np.matmul(x, y),
    np.linalg.outer: lambda x, y, /: outer(x, y),
    np.linalg.vecdot: vecdot,
    np.linalg.tensordot: lambda x, y, /, *, axes=2: tensordot(x, y, axes),
    np.linalg.diagonal: lambda x, /, *, offset=0: diagonal(x, offset, -2, -1),
    np.linalg.trace: lambda x, /, *, offset=0: trace(x, offset, -2, -1),
    np.linalg.vector_norm: vector_norm,
    np.linalg.norm: norm,
    np.positive: lambda x: x * 1,
    np.exp2: lambda x: np.exp(x * math.log(2)),
    np.log2: lambda x: np.log(x) / math.log(2),
    np.log10: lambda x: np.log(x) / math.log(10),
    np.sinh: sinh,
    np.cosh: lambda x: (np.exp(x) + np.exp(-x)) / 2,
    np.tan: lambda x: np.sin(x) / np.cos(x),
}
"""By a function of NumPy, the one of the same arguments that is made of ops."""
