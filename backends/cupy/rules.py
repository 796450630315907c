"""The rules of every op on CuPy arrays: the spec's own where they run unchanged, else others."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import cupy
import cupyx.scipy.special
import ml_dtypes
import numpy as np

from gradspec.backends.cupy.deferred_errors import raise_later_if
from gradspec.backends.cupy.index_keys import SplitKey, apply_basic_part, split_key
from gradspec.reference import OPS
from gradspec.reference.arrays import unbroadcast
from gradspec.reference.ops.nn import check_and_count_classes, cross_entropy_unchecked, describe_bad_targets
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array
from gradspec.reference.tape import Variable

Rule = Callable[..., VJP]

DTYPES_16_BIT = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
"""The dtypes whose ops are computed in float32 and rounded once."""


# Rules of its own


@record
def erfc(x: Array) -> VJP:
    """Compute the complementary error function, which NumPy lacks."""
    return cupyx.scipy.special.erfc(x), (lambda g: -g * np.exp(-x * x) * (2 / np.sqrt(np.pi)),)


def gelu(x: Array, *, approximate: str = "none") -> VJP:
    """Compute by the spec's formula, with CuPy's complementary error function."""
    if approximate != "none":
        return OPS["gelu"].rule(x, approximate=approximate)
    cdf = erfc(x * -(0.5**0.5)) / 2
    return x * cdf, (lambda g: g * (cdf + x * np.exp(-x * x / 2) * (2 * np.pi) ** -0.5),)


def cross_entropy(x: Array, target: Array, *, reduction: str = "mean") -> VJP:
    """Compute by the spec's rule, but raise for bad targets later; see `arrays.raise_later_where`."""
    classes = check_and_count_classes(x, target, reduction)
    raise_later_if(np.any((target < 0) | (target >= classes)), describe_bad_targets(x))
    return cross_entropy_unchecked(x, target % max(classes, 1), reduction)


@record
def _getitem(x: Array, *, how: SplitKey) -> VJP:
    view, key = apply_basic_part(x, how)
    return view[key], (lambda g: _scatter(g, how=how, shape=x.shape),)


@record
def _scatter(g: Array, *, how: SplitKey, shape: tuple[int, ...]) -> VJP:
    """Apply the adjoint of `_getitem`: add g to zeros where it was taken from, each time an index recurs."""
    x = cupy.zeros(shape, g.dtype)
    view, key = apply_basic_part(x, how)
    if how.arrays or any(isinstance(k, cupy.ndarray) for k in how.basic):
        cupy.add.at(view, key, g)
    else:
        view[key] = g
    return x, (lambda h: _getitem(h, how=how),)


def getitem(x: Array, *, key: Any) -> VJP:
    how = split_key(key, x.shape)
    return _getitem(x, how=how), (lambda g: _scatter(g, how=how, shape=x.shape),)


RULES_OVERRIDING_SPEC: dict[str, Rule] = {"gelu": gelu, "cross_entropy": cross_entropy, "getitem": getitem}


NOT_OFFERED = frozenset({"cumulative_sum", "einsum", "index_add", "pad", "stop_gradient", "take_along_axis"})
"""Ops whose rules in the spec use what CuPy's arrays lack, and that have none here yet."""


# Precision and shape


@record
def cast(x: Array, *, dtype: Any) -> VJP:
    """Return x in another dtype; the tape converts cotangents back to the dtype of x."""
    return x.astype(dtype), None if np.dtype(dtype).kind in "biu" else (lambda g: g,)


def widen_rule(rule: Rule, sum_to_shape: Callable[..., Array] = unbroadcast) -> Rule:
    """Return the rule with 16-bit floats computed in float32 and its results rounded once, at the end.

    Args:
        rule: A rule for arrays of any floating dtype.
        sum_to_shape: Sums a gradient to the shape of its argument.
    """

    def fit(d: Array, x: Array) -> Array:
        """Sum the gradient to the shape of its argument, and only then round it to its dtype."""
        if d is None or not hasattr(x, "shape"):
            return d
        d = d if d.shape == x.shape else sum_to_shape(d, x.shape)
        return d if d.dtype == x.dtype else cast(d, dtype=x.dtype)

    def wrap_pullback(pullback: Callable[[Array], Array], x: Array) -> Callable[[Array], Array]:
        return lambda g: fit(pullback(_widen(g)), x)

    @wraps(rule)
    def wide_rule(*xs: Any, **keywords: Any) -> VJP:
        narrow = [x.dtype for x in xs if _is_16_bit(x)]
        value, pullbacks = rule(*map(_widen, xs), **keywords)
        value = cast(value, dtype=narrow[0]) if narrow and value.dtype == np.float32 else value
        if pullbacks is None:
            return value, None
        if callable(pullbacks):
            return value, lambda g: tuple(map(fit, pullbacks(_widen(g)), xs))
        # An optional last array may be missing.
        pairs = zip(pullbacks, xs, strict=False)
        return value, tuple(p and wrap_pullback(p, x) for p, x in pairs)

    return wide_rule


def _is_16_bit(x: Any) -> bool:
    return isinstance(x, cupy.ndarray | Variable) and getattr(x, "dtype", None) in DTYPES_16_BIT


def _widen(x: Any) -> Any:
    return cast(x, dtype=np.float32) if _is_16_bit(x) else x


COMPOSED_RULES: dict[str, Rule] = {
    name: widen_rule(RULES_OVERRIDING_SPEC.get(name, op.rule))
    for name, op in OPS.items()
    if name not in NOT_OFFERED and op.formula is None and not op.module
}
"""The rules of every op that is offered, made of array functions alone."""
