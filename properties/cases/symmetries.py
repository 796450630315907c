"""Symmetries: what value and gradient do when the first array is shifted, doubled or reordered."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.observed.sample_cases import is_within
from gradspec.reference.axes import normalize_axes
from gradspec.reference.rule import Array

Change = Callable[[Array, Case], Array]
"""From an array that belongs to a case, and the case, to an array."""


def _leave(x: Array, _: Case) -> Array:
    return x


def _round_to_eighths(x: Array, _: Case) -> Array:
    """Return x rounded to multiples of 1/8 up to 4 in size, to which `_shift_far` adds exactly."""
    return np.clip(np.round(x.astype(np.float64) * 8) / 8, -4, 4).astype(x.dtype)


def _shift_far(x: Array, _: Case) -> Array:
    """Return x + 1024, whose exp overflows; x + 8 in 16 bits, where more would not be exact."""
    return x + x.dtype.type(8 if x.dtype.itemsize == 2 else 1024)


def _round_to_integers(x: Array, _: Case) -> Array:
    """Return x rounded to integers up to 4 in size."""
    return np.clip(np.round(x.astype(np.float64)), -4, 4).astype(x.dtype)


def _shift_near(x: Array, _: Case) -> Array:
    """Return x + 2, for pullbacks that lose digits of a distant x, such as g + b x + c or exp(x - y) g."""
    return x + x.dtype.type(2)


def _reorder(x: Array, case: Case) -> Array:
    """Return x with its elements along the axes that the op combines in another order.

    They are those of its keyword `axis`, or the core dimensions of its signature, or all.
    """
    if "axis" in case.keywords or not case.op.signature:
        axes = normalize_axes(case.keywords.get("axis"), x.ndim)
    else:
        axes = tuple(range(-min(case.op.core_ranks[0], x.ndim), 0))
    return np.roll(np.flip(x, axes), (1,) * len(axes), axes) if axes else x


def _double(x: Array, _: Case) -> Array:
    return x * x.dtype.type(2)


def _quadruple(x: Array, _: Case) -> Array:
    return x * x.dtype.type(4)


@dataclass(frozen=True)
class Symmetry:
    """What a change of x, the first array, does to the value and to the gradient of x.

    The gradients of other arrays remain.

    Attributes:
        name: What the value is, in words.
        x: The change of x.
        value: The change of the value that follows.
        cotangent: The change of the cotangent that goes with it.
        gradient: The change of the gradient of x that follows from both.
        prepare: Applied to x first, to make the change of x exact, so that nothing but the op rounds.
    """

    name: str
    x: Change
    value: Change = _leave
    cotangent: Change = _leave
    gradient: Change = _leave
    prepare: Change = _leave

    @property
    def leaves_value(self) -> bool:
        """Whether the value remains."""
        return self.value is _leave

    def prepare_case(self, case: Case) -> Case:
        """Return the case with x as it is before the change."""
        return case.with_input(0, self.prepare(case.inputs[0], case))

    def change_case(self, case: Case) -> Case:
        """Return a prepared case with x and the cotangent changed."""
        x, g = self.x(case.inputs[0], case), self.cotangent(case.cotangent, case)
        return replace(case.with_input(0, x), cotangent=g)

    def applies_to(self, case: Case) -> bool:
        """Return whether x, prepared and changed, remains in its domain, and the value can follow it."""
        if self.value is _reorder and case.cotangent.shape != case.inputs[0].shape:
            return False
        before = self.prepare_case(case)
        domain, arrays = case.op.domain(0), (before.inputs[0], self.x(before.inputs[0], before))
        return all(is_within(domain, x) for x in arrays)


SHIFT_INVARIANT = Symmetry("invariant under shifts", _shift_far, prepare=_round_to_eighths)
SMALL_SHIFT_INVARIANT = Symmetry("invariant under shifts", _shift_near, prepare=_round_to_integers)
SMALL_SHIFT_EQUIVARIANT = Symmetry("shifted with x", _shift_near, _shift_near, prepare=_round_to_integers)
SHIFT_EQUIVARIANT = Symmetry("shifted with x", _shift_far, _shift_far, prepare=_round_to_eighths)
ORDER_INVARIANT = Symmetry("the same in any order", _reorder, gradient=_reorder)
ORDER_EQUIVARIANT = Symmetry("reordered with x", _reorder, _reorder, _reorder, _reorder)
SCALE_EQUIVARIANT = Symmetry("doubled with x", _double, _double)
SCALE_QUADRATIC = Symmetry("quadrupled with x doubled", _double, _quadruple, gradient=_double)

SYMMETRIES = (
    *(SHIFT_INVARIANT, SMALL_SHIFT_INVARIANT, SMALL_SHIFT_EQUIVARIANT, SHIFT_EQUIVARIANT),
    *(ORDER_INVARIANT, ORDER_EQUIVARIANT, SCALE_EQUIVARIANT, SCALE_QUADRATIC),
)
"""All that an op may have."""
