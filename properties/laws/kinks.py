"""At kinks and ties, is the gradient a legal subgradient?

A gradient is legal if it lies between the one-sided derivatives: those that the spec gives, in higher
precision, with the inputs moved off the kink by less than a unit in the last place, in many ways. It must lie

- element by element between the least and the largest of them, and
- in the flat (affine subspace) that they span: a sum of gradients that is the same on all sides of the kink
  must be the same on it. So the two gradients at a tie of `maximum` sum to the cotangent, and so do the
  shares of a tied `max`.

For a kink of one element, and for a tie of any number of elements, these two conditions together are the
convex hull; where kinks of several kinds meet, they may allow a little more. They leave open what mathematics
leaves open: relu'(0) may be 0, 1/2 or 1.

Of more than 256 elements on kinks not every side can be tried. Then the first condition is asked of
elementwise ops alone, whose ties do not depend on each other, and in place of the second: a sum of the
gradients of one argument, or of all, that is the same on all sides that were tried is the same on the kink.

Does not see: the value; of more than 256 elements on kinks, a wrong share that others make up for; which
legal subgradient is chosen, and whether it is the same for each element and each call; gradients slightly
outside the convex hull where kinks of several kinds meet.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of, exact_dtype
from gradspec.properties.cases.evaluate import Result, differentiate, run_spec
from gradspec.properties.cases.kinks import MAX_MOVED_IN_TURN, iterate_kink_sides
from gradspec.properties.judging.jitter import JitteredArray, JitterSource, use_jitter
from gradspec.properties.judging.judge import ALLOWED_FACTOR, Judgement, ulp
from gradspec.properties.judging.judgement import Severity
from gradspec.reference.arrays import unbroadcast
from gradspec.reference.rule import Array

SEVERITY: Severity = "edge"

JITTERED_RUNS_PER_SIDE = 2
"""Runs of the spec on each side with every operation off by a unit in the last place."""

SIDES_PER_JUDGEMENT = 4
"""How many sides are added before the gradient is judged again."""


def gradient_at_kinks_is_a_legal_subgradient(backend: Backend, case: Case) -> Judgement:
    """Judge whether all gradients together lie between the one-sided ones.

    A case with no element on a kink agrees and is not informative.
    """
    count = sum(int(np.sum(d == 0)) for d in case.compute_kink_distances())
    if not count:
        return Judgement("agree", "no element is on a kink", informative=False)
    got = differentiate(backend, case)
    shapes = {case.op.argument_name(i): x.shape for i, x in enumerate(case.inputs)}
    if wrong := [k for k, d in got.gradients.items() if d.shape != shapes[k]]:
        return Judgement("disagree", f"the gradient of {wrong[0]} does not have the shape of {wrong[0]}")
    hull, sides = GradientHull(case), iterate_kink_sides(case)
    hull.add_sides(itertools.islice(sides, SIDES_PER_JUDGEMENT))
    judgement = hull.judge(got)
    while judgement.verdict == "disagree" and (
        more_sides := list(itertools.islice(sides, SIDES_PER_JUDGEMENT))
    ):
        hull.add_sides(more_sides)
        judgement = hull.judge(got)
    if judgement.verdict == "disagree" and count > MAX_MOVED_IN_TURN:
        return hull.judge_many(got, count)
    return judgement


class GradientHull:
    """The gradients on the sides of a kink: one row per side, which holds the gradients of all arguments."""

    def __init__(self, case: Case) -> None:
        self.case, self.dtype = case, dtype_of(case.dtype)
        self.side_cases: list[Case] = []
        self.side_gradients: list[Array] = []
        # Orthonormal directions of the flat through the first sides, and the number of these sides.
        self._flat_basis: list[Array] = []
        self._sides_in_basis = 1

    def add_sides(self, side_cases: Iterable[Case]) -> None:
        """Add the gradients of the spec on further sides, each a case moved off the kink."""
        others = []
        for case in side_cases:
            if len(self.side_cases) < SIDES_PER_JUDGEMENT:  # those that the noise is measured on
                self.side_cases.append(case)
            self.side_gradients.append(_flatten_gradients(run_spec(case), self.case.dtype))
            others += _list_other_answers(case)
        self.side_gradients += [_flatten_gradients(answer, self.case.dtype) for answer in others]

    @cached_property
    def noise(self) -> Array:
        """The distance that rounding moves the gradients on the first sides."""
        pairs = zip(self.side_cases, self.side_gradients, strict=False)
        return np.max([_measure_noise(case, side, self.case.dtype) for case, side in pairs], axis=0)

    def judge(self, result: Result) -> Judgement:
        """Judge whether the gradients lie between those of the sides; measure noise only if it is needed."""
        got = _flatten_gradients(result, self.case.dtype)
        judgement = self._judge_within(got, ALLOWED_FACTOR * self._units)
        if judgement.verdict == "agree":
            return judgement
        return self._judge_within(got, ALLOWED_FACTOR * (self._units + self.noise))

    @property
    def _units(self) -> Array:
        return ulp(np.max(np.abs(self.side_gradients), axis=0), self.dtype)

    def judge_many(self, result: Result, count: int) -> Judgement:
        """Judge what can be judged if only a few of the sides of so many elements on kinks were tried."""
        got, allowed = (
            _flatten_gradients(result, self.case.dtype),
            ALLOWED_FACTOR * (self._units + self.noise),
        )
        if self.case.op.elementwise:
            judgement = self._judge_range(got, allowed)
            if judgement.verdict == "disagree":
                return judgement
        informative = False
        for name, part in self._slices():
            sides = [row[part] for row in self.side_gradients]
            sums = np.array([np.sum(row) for row in sides])
            rounding = np.finfo(sums.dtype).eps * len(got) * max(np.sum(np.abs(row)) for row in sides)
            if np.ptp(sums) > rounding:
                continue
            off, limit = abs(np.sum(got[part]) - sums[0]), np.sum(allowed[part]) + rounding
            if not off <= limit:
                return Judgement(
                    "disagree",
                    f"the gradients of {name} sum to {float(np.sum(got[part])):.9g}; "
                    f"on either side of the kink they sum to {float(sums[0]):.9g}",
                    worst=float(off / limit),
                )
            informative = informative or bool(limit < abs(sums[0]))
        if informative:
            return Judgement("agree", f"only sums were judged: {count} elements are on kinks")
        return Judgement("undecidable", f"{count} elements are on kinks", informative=False)

    def _slices(self) -> Iterator[tuple[str, slice]]:
        """Yield the name of each argument and its part of a row, and at last the whole row."""
        begin = 0
        for i in self.case.differentiable_inputs:
            yield self.case.op.argument_name(i), slice(begin, begin := begin + self.case.inputs[i].size)
        yield "all arguments", slice(None)

    def _judge_within(self, got: Array, allowed: Array) -> Judgement:
        """Judge whether a row is within the allowed distance of both the range and the flat of the sides."""
        judgement = self._judge_range(got, allowed)
        return judgement if judgement.verdict == "disagree" else self._judge_flat(got, allowed, judgement)

    def _judge_range(self, got: Array, allowed: Array) -> Judgement:
        """Judge whether each element of a row is between the least and the largest on the sides."""
        low, high = np.min(self.side_gradients, axis=0), np.max(self.side_gradients, axis=0)
        beyond = np.maximum(low - got, got - high)
        beyond = np.where(np.isnan(beyond), np.inf, beyond) / allowed
        if np.any(beyond > 1):
            at = int(np.argmax(beyond))
            return Judgement(
                "disagree",
                f"{self._name_element(at)} is {float(got[at]):.9g}; on either side of the kink it is "
                f"between {float(low[at]):.9g} and {float(high[at]):.9g}",
                worst=float(beyond[at]),
            )
        worst = max(float(np.max(beyond)), 0.0)
        return Judgement("agree", informative=bool(np.any(high > low)), worst=worst)

    def _judge_flat(self, got: Array, allowed: Array, within_range: Judgement) -> Judgement:
        """Judge whether a row that is within the range lies in the flat through the sides, too."""
        across = self._get_orthogonal_part(got)
        ratio = float(np.sqrt(np.sum(across * across)) / np.sqrt(np.sum(allowed * allowed)))
        if ratio > 1:
            at = int(np.argmax(np.abs(across)))
            return Judgement(
                "disagree",
                f"{self._name_element(at)} is {float(got[at]):.9g}: {self._describe_tie(at, got)}",
                worst=ratio,
            )
        return replace(within_range, worst=max(ratio, within_range.worst))

    def _describe_tie(self, at: int, got: Array) -> str:
        """Return in words what the gradients at a tie must do, of which one is that at a place of a row."""
        moves = np.zeros_like(got)
        for direction in self._flat_basis:
            moves += direction[at] * direction
        together = np.flatnonzero(np.abs(moves) > 1e-9)  # the elements that the flat lets move with this one
        sums = np.array([np.sum(side[together]) for side in self.side_gradients])
        if len(together) < 2 or np.ptp(sums) > 1e-6 * np.sum(np.abs(self.side_gradients[0])):
            return "with the other gradients, it is not a mixture of those on either side of the kink"
        total = float(sums[0])
        of_cotangent = "the cotangent " if np.any(self.case.cotangent.astype(sums.dtype) == sums[0]) else ""
        places = [self._name_place(int(k)) for k in together[:4]]
        many = len(together) > len(places)
        tied = f"{len(together)} elements" if many else f"{', '.join(places[:-1])} and {places[-1]}"
        return (
            f"at a tie of {tied} the gradients must sum to {of_cotangent}{total:.9g}, "
            f"they sum to {float(np.sum(got[together])):.9g}"
        )

    def _get_orthogonal_part(self, row: Array) -> Array:
        """Return the part of a row, less the first side, that is orthogonal to the flat through all sides."""
        while self._sides_in_basis < len(self.side_gradients):
            side = self.side_gradients[self._sides_in_basis]
            across = self._subtract_projection(side - self.side_gradients[0])
            if np.max(np.abs(across)) > 1e-6 * np.max(np.abs([side, self.side_gradients[0]])):
                self._flat_basis.append(across / np.sqrt(np.sum(across * across)))
            self._sides_in_basis += 1
        return self._subtract_projection(row - self.side_gradients[0])

    def _subtract_projection(self, across: Array) -> Array:
        """Return the part of a row that is orthogonal to the basis of the flat."""
        if self._flat_basis:
            flat = np.array(self._flat_basis)
            # Twice: the second pass removes what rounding left.
            for _ in range(2):
                across = across - (flat @ across) @ flat
        return across

    def _name_element(self, at: int) -> str:
        return f"the gradient of {self._name_place(at)}"

    def _name_place(self, at: int) -> str:
        """Return the argument and the place there that an element of a row is the gradient of, in words."""
        for i in self.case.differentiable_inputs:
            x = self.case.inputs[i]
            if at < x.size:
                place = tuple(map(int, np.unravel_index(at, x.shape)))
                return f"{self.case.op.argument_name(i)}{f' at {place}' if place else ''}"
            at -= x.size
        raise IndexError(at)


def _list_other_answers(case: Case) -> list[Result]:
    """Return what others may answer on a side where an elementwise op is not defined, if two arguments tell.

    That is what it gives for them in the right order, as if each of the two were the other.
    """
    if case.is_settled or not case.op.elementwise:
        return []
    shapes = [x.shape for x in case.inputs]
    whole = replace(case, inputs=tuple(np.broadcast_arrays(*case.inputs)))
    settled = whole.settle()
    moved = [now != before for now, before in zip(settled.inputs, whole.inputs, strict=True)]
    pair = [i for i, mask in enumerate(moved) if np.any(mask)]
    if len(pair) != 2:
        return []
    result, names = run_spec(settled), [case.op.argument_name(i) for i in range(len(shapes))]
    gradients = result.gradients
    first, second = (names[i] for i in pair)
    where, one, other = moved[pair[0]], gradients[first], gradients[second]
    gradients = gradients | {first: np.where(where, other, one), second: np.where(where, one, other)}
    summed = {name: unbroadcast(gradients[name], shape) for name, shape in zip(names, shapes, strict=True)}
    return [replace(result, gradients=summed)]


def _flatten_gradients(result: Result, dtype: str) -> Array:
    """Return the gradients of all arguments, one after the other."""
    return np.concatenate([d.astype(exact_dtype(dtype)).ravel() for d in result.gradients.values()])


def _measure_noise(case: Case, side: Array, dtype: str) -> Array:
    """Return how far the gradients move when every operation, but no input, is off by one ulp."""
    distances = []
    for seed in range(JITTERED_RUNS_PER_SIDE):
        with use_jitter(JitterSource(dtype_of(dtype), seed + 1)):
            rounded = run_spec(case.map_float_arrays(lambda x: x.view(JitteredArray)))
        distances.append(np.abs(_flatten_gradients(rounded, dtype).view(np.ndarray) - side))
    return np.max(distances, axis=0)
