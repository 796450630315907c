"""At kinks and ties, is the gradient a legal subgradient?

Legal is what lies between the one-sided derivatives: those that the spec gives, in higher precision, with the inputs moved
off the kink by less than a unit in the last place, in many ways. A gradient must lie

- element by element between the least and the largest of them, and
- in the flat that they span: whatever sum of gradients is the same on all sides of the kink is the same on it. So the two
  gradients at a tie of `maximum` sum to the cotangent, and so do the shares of a tied `max`.

For a kink of one element and for a tie of any number these two together are the convex hull; where kinks of several kinds
meet, they may allow a little more. They leave open what mathematics leaves open: relu'(0) may be 0, 1/2 or 1.
"""

import itertools
from collections.abc import Iterable
from functools import cached_property

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.case import Case, Result, differentiate, dtype_of, spec_of, wider
from gradspec.properties.generating.kinked import off_kinks
from gradspec.properties.judging.judge import FACTOR, Judgement, ulp
from gradspec.properties.judging.rounding import Rounded, Rounding, rounding
from gradspec.reference.tape import Array

JITTERED = 2  # runs on each side whose every operation is a unit in the last place off
SIDES = 4  # sides to look at before looking whether they are enough already


def gradient_at_kinks_is_a_legal_subgradient(backend: Backend, case: Case) -> Judgement:
    """All gradients together lie between the one-sided ones. Cases with no element on a kink are not judged."""
    if not any(np.any(d == 0) for d in case.kink_distances()):
        return Judgement("agree", "no element is on a kink", informative=False)
    got = differentiate(backend, case)
    exact = spec_of(case).gradients
    if wrong := [k for k, d in got.gradients.items() if d.shape != exact[k].shape]:
        return Judgement("disagree", f"the gradient of {wrong[0]} has another shape than {wrong[0]}")
    hull, ways = Hull(case), off_kinks(case)
    hull.extend(itertools.islice(ways, SIDES))
    judgement = hull.judge(got)
    while judgement.verdict == "disagree" and (batch := list(itertools.islice(ways, SIDES))):
        hull.extend(batch)
        judgement = hull.judge(got)
    return judgement


class Hull:
    """The gradients on the sides of a kink, all arguments of a side in one row."""

    def __init__(self, case: Case) -> None:
        self.case, self.dtype = case, dtype_of(case.dtype)
        self.off: list[Case] = []
        self.sides: list[Array] = []
        self._flat: list[Array] = []  # orthonormal directions that the first sides span
        self._spanned = 1  # by how many sides

    def extend(self, off: Iterable[Case]) -> None:
        """Take in the gradients of the spec on further sides."""
        for case in off:
            self.off.append(case)
            self.sides.append(_row(spec_of(case), self.case.dtype))

    @cached_property
    def noise(self) -> Array:
        """How far rounding moves the gradients on the first sides."""
        pairs = zip(self.off[:SIDES], self.sides, strict=False)
        return np.max([_noise(case, side, self.case.dtype) for case, side in pairs], axis=0)

    def judge(self, result: Result) -> Judgement:
        """Whether the gradients lie between those of the sides; closely looked at only where an ulp is not enough."""
        got = _row(result, self.case.dtype)
        units = ulp(np.max(np.abs(self.sides), axis=0), self.dtype)
        judgement = self._judge(got, FACTOR * units)
        return judgement if judgement.verdict == "agree" else self._judge(got, FACTOR * (units + self.noise))

    def _judge(self, got: Array, allowed: Array) -> Judgement:
        low, high = np.min(self.sides, axis=0), np.max(self.sides, axis=0)
        beyond = np.maximum(low - got, got - high)
        beyond = np.where(np.isnan(beyond), np.inf, beyond) / allowed
        if np.any(beyond > 1):
            at = int(np.argmax(beyond))
            return Judgement(
                "disagree",
                f"{self._name(at)} is {float(got[at]):.9g}; on the sides of the kink it is "
                f"between {float(low[at]):.9g} and {float(high[at]):.9g}",
                worst=float(beyond[at]),
            )
        across = self._off_the_flat(got)
        ratio = float(np.sqrt(np.sum(across * across)) / np.sqrt(np.sum(allowed * allowed)))
        if ratio > 1:
            at = int(np.argmax(np.abs(across)))
            return Judgement(
                "disagree",
                f"{self._name(at)} is {float(got[at]):.9g}, which does not make up for the gradients it shares a tie "
                f"with: together they are {float(np.sum(got)):.9g}, on a side of the kink {float(np.sum(self.sides[0])):.9g}",
                worst=ratio,
            )
        worst = max(ratio, float(np.max(beyond)), 0.0)
        return Judgement("agree", informative=bool(np.any(high > low)), worst=worst)

    def _off_the_flat(self, row: Array) -> Array:
        """The part of a row, less the first side, that is orthogonal to the flat through all sides."""
        while self._spanned < len(self.sides):
            side = self.sides[self._spanned]
            across = self._orthogonal(side - self.sides[0])
            if np.max(np.abs(across)) > 1e-6 * np.max(np.abs([side, self.sides[0]])):
                self._flat.append(across / np.sqrt(np.sum(across * across)))
            self._spanned += 1
        return self._orthogonal(row - self.sides[0])

    def _orthogonal(self, across: Array) -> Array:
        if self._flat:
            flat = np.array(self._flat)
            for _ in range(2):  # once more for what rounding left
                across = across - (flat @ across) @ flat
        return across

    def _name(self, at: int) -> str:
        """The argument and the place that an element of a row belongs to."""
        for i in self.case.differentiable:
            x = self.case.inputs[i]
            if at < x.size:
                place = tuple(map(int, np.unravel_index(at, x.shape)))
                return f"the gradient of {self.case.op.argument(i)}{f' at {place}' if place else ''}"
            at -= x.size
        raise IndexError(at)


def _row(result: Result, dtype: str) -> Array:
    """The gradients of all arguments, one after the other."""
    return np.concatenate([d.astype(wider(dtype)).ravel() for d in result.gradients.values()])


def _noise(case: Case, side: Array, dtype: str) -> Array:
    """How far the gradients move when every operation, but no input, is a unit in the last place off."""
    moved = []
    for seed in range(JITTERED):
        with rounding(Rounding(dtype_of(dtype), seed + 1)):
            rounded = spec_of(case.with_arrays(lambda x: x.view(Rounded)))
        moved.append(np.abs(_row(rounded, dtype).view(np.ndarray) - side))
    return np.max(moved, axis=0)
