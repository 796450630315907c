"""General faults at particular numbers: zero, ties, signs, sizes, infinities and NaN."""

import numpy as np

from faults.by_memory import needs_its_inputs
from faults.by_place import wrong
from faults.fault import EXTREMES, GRADIENT, KINKS, Array, Call, Pull
from faults.general import When, gradient, value
from gradspec.reference import Op
from gradspec.reference.domains import Interval

NUMBERS, OVERFLOW = "numbers", "extremes"
LARGE, SMALL = 2, 0.05  # within what ordinary cases are made of
HUGE = 2.0**100  # whose product with another such number float32 cannot hold


def takes(x: float) -> When:
    """Whether an op's first differentiable argument may be this number."""

    def holds(op: Op) -> bool:
        domain = next((d for d in op.domains if isinstance(d, Interval)), None)
        return domain is not None and x in domain

    return holds


def several_arrays(op: Op) -> bool:
    return len([d for d in op.domains if isinstance(d, Interval)]) > 1 and op.signature is not None


def may_be_infinite(op: Op) -> bool:
    return op.differentiable and op.name not in {"tanh", "sigmoid", "sin", "cos", "softmax"}


def tie(c: Call) -> Array:
    """Where the first two arrays of numbers are equal, in the shape that they broadcast to; nowhere if they do not."""
    x, y = [x for x in c.xs if x.dtype.kind == "f"][:2]
    try:
        return np.equal(x, y)
    except ValueError:
        return np.zeros((), np.bool_)


@gradient(NUMBERS, when=takes(0))
def is_nan_at_zero(p: Pull) -> Array:
    return p.scaled(p.x / p.x)


@gradient(NUMBERS, when=takes(-1), likely=GRADIENT)
def is_doubled_for_negative_numbers(p: Pull) -> Array:
    return p.where(p.x < 0)


@gradient(NUMBERS)
def is_doubled_for_small_numbers(p: Pull) -> Array:
    return p.where((np.abs(p.x) < SMALL) & (p.x != 0))


@gradient(NUMBERS, when=several_arrays, likely=KINKS)
def is_tripled_where_two_arrays_are_equal(p: Pull) -> Array:
    mask = tie(p)
    return p.where(mask, 3) if mask.shape == p.d.shape else p.d


@value(NUMBERS, when=takes(0))
def is_wrong_at_zero(c: Call) -> Array:
    return at_inputs(c, [x == 0 for x in c.xs])


@value(NUMBERS, when=takes(-1))
def is_wrong_for_negative_numbers(c: Call) -> Array:
    return at_inputs(c, [x < 0 for x in c.xs])


def at_inputs(c: Call, masks: list[Array]) -> Array:
    """The value, wrong where the first mask holds; all of it where that is of another shape and holds somewhere."""
    mask = next(m for m, x in zip(masks, c.xs, strict=True) if x.dtype.kind == "f")
    return wrong(c.y, mask if mask.shape == c.y.shape else np.full(c.y.shape, np.any(mask)))


@value(OVERFLOW, when=may_be_infinite, likely=EXTREMES)
def is_never_infinite(c: Call) -> Array:
    return np.clip(c.y, np.finfo(c.y.dtype).min, np.finfo(c.y.dtype).max)


@value(OVERFLOW, when=lambda op: op.differentiable, likely=EXTREMES)
def is_never_nan(c: Call) -> Array:
    return np.where(np.isnan(c.y), 0, c.y).astype(c.y.dtype)


@gradient(OVERFLOW, when=needs_its_inputs, likely=EXTREMES)
def overflows_on_the_way(p: Pull) -> Array:
    return p.scaled(p.d.dtype.type(1) / (p.d.dtype.type(1) / (p.d * p.d))) / p.d if p.d.size else p.d


@gradient(OVERFLOW, when=needs_its_inputs, likely=EXTREMES)
def is_nan_where_numbers_are_huge(p: Pull) -> Array:
    return p.scaled(np.where(np.isfinite(p.x * p.x * 4), 1, np.nan))


@gradient(OVERFLOW, when=needs_its_inputs, likely=EXTREMES)
def is_nan_where_numbers_are_tiny(p: Pull) -> Array:
    with np.errstate(all="ignore"):
        return p.scaled(np.where((p.x * p.x == 0) & (p.x != 0), np.nan, 1))
