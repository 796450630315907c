"""General faults at particular numbers: zero, ties, negative, small and huge numbers, infinities and NaN."""

import numpy as np

from gradspec.reference import Op
from gradspec.reference.domains import Interval
from tests.faults.by_place import make_wrong_where
from tests.faults.fault import (
    EXTREMES_PROPERTY,
    GRADIENT_PROPERTY,
    KINKS_PROPERTY,
    Array,
    CallContext,
    GradientContext,
)
from tests.faults.general import OpPredicate, gradient_fault, value_fault
from tests.faults.observed import may_be_infinite, needs_its_inputs

KIND_NUMBERS, KIND_EXTREMES = "numbers", "extremes"
SMALL_NUMBER = 0.05  # ordinary cases hold smaller ones


def domain_contains(x: float) -> OpPredicate:
    """Return a predicate: whether an op's first argument of numbers may be this number."""

    def holds(op: Op) -> bool:
        domain = next((d for d in op.domains if isinstance(d, Interval)), None)
        return domain is not None and x in domain

    return holds


def has_several_arrays(op: Op) -> bool:
    return len([d for d in op.domains if isinstance(d, Interval)]) > 1 and op.signature is not None


def mask_ties(c: CallContext) -> Array:
    """Return where the first two float arrays, broadcast, are equal: nowhere if they do not broadcast."""
    x, y = [x for x in c.xs if x.dtype.kind == "f"][:2]
    try:
        return np.equal(x, y)
    except ValueError:
        return np.zeros((), np.bool_)


@gradient_fault(KIND_NUMBERS, applies_to=domain_contains(0))
def is_nan_at_zero(c: GradientContext) -> Array:
    return c.scale(c.x / c.x)


@gradient_fault(KIND_NUMBERS, applies_to=domain_contains(-1), likely=GRADIENT_PROPERTY)
def is_doubled_for_negative_numbers(c: GradientContext) -> Array:
    return c.scale_where(c.x < 0)


@gradient_fault(KIND_NUMBERS)
def is_doubled_for_small_numbers(c: GradientContext) -> Array:
    return c.scale_where((np.abs(c.x) < SMALL_NUMBER) & (c.x != 0))


@gradient_fault(KIND_NUMBERS, applies_to=has_several_arrays, likely=KINKS_PROPERTY)
def is_tripled_where_two_arrays_are_equal(c: GradientContext) -> Array:
    mask = mask_ties(c)
    return c.scale_where(mask, 3) if mask.shape == c.gradient.shape else c.gradient


@value_fault(KIND_NUMBERS, applies_to=domain_contains(0))
def value_is_wrong_at_zero(c: CallContext) -> Array:
    return make_wrong_at_inputs(c, [x == 0 for x in c.xs])


@value_fault(KIND_NUMBERS, applies_to=domain_contains(-1))
def value_is_wrong_for_negative_numbers(c: CallContext) -> Array:
    return make_wrong_at_inputs(c, [x < 0 for x in c.xs])


def make_wrong_at_inputs(c: CallContext, masks: list[Array]) -> Array:
    """Return the value, wrong where the mask of the first float array holds.

    If the mask has another shape than the value, all of the value is wrong once the mask holds anywhere.
    """
    mask = next(m for m, x in zip(masks, c.xs, strict=True) if x.dtype.kind == "f")
    return make_wrong_where(c.y, mask if mask.shape == c.y.shape else np.full(c.y.shape, np.any(mask)))


@value_fault(KIND_EXTREMES, applies_to=may_be_infinite, likely=EXTREMES_PROPERTY)
def value_is_never_infinite(c: CallContext) -> Array:
    return np.clip(c.y, np.finfo(c.y.dtype).min, np.finfo(c.y.dtype).max)


@value_fault(KIND_EXTREMES, applies_to=lambda op: op.differentiable, likely=EXTREMES_PROPERTY)
def value_is_never_nan(c: CallContext) -> Array:
    return np.where(np.isnan(c.y), 0, c.y).astype(c.y.dtype)


@gradient_fault(KIND_EXTREMES, applies_to=needs_its_inputs, likely=EXTREMES_PROPERTY)
def overflows_on_the_way(c: GradientContext) -> Array:
    if not c.gradient.size:
        return c.gradient
    one = c.gradient.dtype.type(1)
    return c.scale(one / (one / (c.gradient * c.gradient))) / c.gradient


@gradient_fault(KIND_EXTREMES, applies_to=needs_its_inputs, likely=EXTREMES_PROPERTY)
def is_nan_where_numbers_are_huge(c: GradientContext) -> Array:
    return c.scale(np.where(np.isfinite(c.x * c.x * 4), 1, np.nan))


@gradient_fault(KIND_EXTREMES, applies_to=needs_its_inputs, likely=EXTREMES_PROPERTY)
def is_nan_where_numbers_are_tiny(c: GradientContext) -> Array:
    with np.errstate(all="ignore"):
        return c.scale(np.where((c.x * c.x == 0) & (c.x != 0), np.nan, 1))
