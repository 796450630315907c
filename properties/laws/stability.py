"""Is the spec as stable as its function: does it lose no more digits than the function itself does?

The noise of the spec's formula is part of every tolerance. Where the formula is less stable than its
function, wrong results lie within that noise, and even what counts as exact is wrong.

A stable formula may round in every operation; its results then move at most 32 times as far as the exact
ones move if only the inputs and the cotangent are off by a unit in the last place, plus a unit of the result.
A few operations add up, hence 32. Where large numbers cancel it is a thousand times as much, or more.

Does not see: a loss of a few bits; second derivatives that are 0; what a formula loses in higher precision as
well, in all its runs alike; results next to the smallest numbers, where digits are lost to underflow;
layer_norm of arrays so large that it takes them in blocks.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of, exact_dtype
from gradspec.properties.cases.evaluate import run_spec
from gradspec.properties.cases.filling import fill_case, fill_cotangent
from gradspec.properties.judging.jitter import JitterSource
from gradspec.properties.judging.judge import (
    SPEC_BACKEND,
    ComputationJudge,
    Judge,
    Judgement,
    combine_judgements,
    ulp,
)
from gradspec.properties.judging.judgement import Severity, Verdict
from gradspec.properties.laws.second_order import MAX_DIRECTION_TO_INPUT_RATIO, compute_second_derivatives
from gradspec.reference import Op
from gradspec.reference.calls import SeededChoices
from gradspec.reference.domains import Interval
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"

STABILITY_FACTOR = 32
"""How many times as far as the function a formula may be moved; the spec's are moved ten times as far."""

ROUNDED_COPIES = 1
"""How many runs have every operation off by a unit, besides the plain one: digits are lost in any of them."""

MOVED_COPY_COUNTS = (2, 8, 64)
"""So many have inputs off by a unit, in turn, before a formula is found unstable."""

SCALES = (1, 8, 30, 1 / 64)
"""What drawn inputs are multiplied by."""

LOGARITHMS_OF_GRID = np.arange(-40, 11.5, 0.5)
"""Base 2, of the sizes that functions of one argument are tried on."""

Convert = Callable[[Array], Array]
T = TypeVar("T")


def spec_is_as_stable_as_its_function(_: Backend, case: Case) -> Judgement:
    """Judge whether the spec's value and gradients are as stable as the function is."""
    judge = _StabilityJudge(case, lambda convert: run_spec(case.map_float_arrays(convert)))
    gradients = [
        judge.judge_stability(f"gradient of {name}", lambda r, name=name: r.gradients[name])  # type: ignore[misc]
        for name in judge.exact.gradients
    ]
    return combine_judgements([judge.judge_stability("value", lambda r: r.value), *gradients])


def second_derivatives_are_as_stable_as_the_function(_: Backend, case: Case) -> Judgement:
    """Judge whether the derivatives of the spec's gradients, along one direction, are as stable as they are.

    As in the law of second derivatives, numbers of the size of the first derivative may cancel. Where a
    derivative is 0, some symmetry makes it so, and rounding breaks that: it is left out.
    """
    backend = replace(SPEC_BACKEND, ops={**SPEC_BACKEND.ops, case.op.address: case.op.apply})
    judge = _StabilityJudge(case, lambda convert: compute_second_derivatives(backend, case, convert))
    first = Judge(case).exact.gradients
    judgements = []
    for k, second in enumerate(judge.exact):
        for name in second.derivatives:
            what = f"derivative by {name} of the gradient of {second.argument}"
            scale = MAX_DIRECTION_TO_INPUT_RATIO * np.abs(first[name]) if name in first else 0
            part = lambda e, k=k, name=name: e[k].derivatives[name]
            judgements.append(judge.judge_stability(what, part, scale))
    return combine_judgements(judgements)


class _StabilityJudge(ComputationJudge[T]):
    """Judges the spec's own formula by how far its function moves."""

    def __init__(self, case: Case, compute: Callable[[Convert], T]) -> None:
        super().__init__(case.dtype, compute)
        self.case = case
        self._moved: list[T] = []

    def judge_stability(self, what: str, part: Callable[[T], Array], scale: Any = None) -> Judgement:
        """Judge whether rounding moves a part of the outcome no further than moved inputs do.

        Args:
            what: What the part is called in the reason.
            part: What to take of an outcome.
            scale: The size of numbers that may have cancelled to give this part, altogether where it is 0;
                None if none may.
        """
        exact = part(self.exact)
        if exact.dtype.kind in "biu":
            return Judgement("agree", informative=False)
        with np.errstate(all="ignore"):
            noise = self.measure_noise(part, ROUNDED_COPIES)
            unit = ulp(np.maximum(np.abs(exact), 0 if scale is None else scale), dtype_of(self.dtype))
            if not self.case.op.elementwise:
                unit = unit + self.relative_underflow_error * np.abs(exact)
            judged = np.isfinite(exact) & np.isfinite(noise) & ~self._is_near_underflow(exact)
            if scale is not None:
                judged &= exact != 0
            movement, ratio, worst = np.zeros_like(exact), np.zeros_like(exact), 0.0
            for copies in MOVED_COPY_COUNTS:
                movement = self.measure_movement(part, copies)
                allowed = STABILITY_FACTOR * (movement + unit)
                ratio = np.where(judged & np.isfinite(allowed), noise / allowed, 0)
                worst = float(np.max(ratio, initial=0))
                if worst <= 1:
                    return Judgement("agree", informative=bool(np.any(ratio > 0)), worst=worst)
        at = np.unravel_index(np.argmax(ratio), ratio.shape)
        place = f" at {tuple(map(int, at))}" if at else ""
        # An op declared elsewhere may be as plain as its authors like: it then excuses what loses as many
        # digits, and accuses nothing.
        verdict: Verdict = "lossy" if self.case.op.module else "disagree"
        return Judgement(
            verdict,
            f"rounding in the spec's formula moves the {what}{place}, {float(exact[at]):.9g}, by "
            f"{float(noise[at]):.3g}; inputs off by a unit move it by only {float(movement[at]):.3g}",
            worst=worst,
            loss=worst if verdict == "lossy" else 0,
        )

    def measure_movement(self, part: Callable[[T], Array], copies: int) -> Array:
        """Return how far the exact outcomes for moved inputs get from the exact outcome.

        Zeros move by a unit of the largest number of their array. If they stood still, an array of zeros and
        ones would only move like one number.
        """
        while len(self._moved) < copies:
            source = JitterSource(dtype_of(self.dtype), seed=len(self._moved) + 1)

            def move(x: Array, source: JitterSource = source) -> Array:
                x = x.astype(source.compute_dtype)
                size = np.full_like(x, np.max(np.abs(x), initial=0) or 1)
                moved = np.where(x == 0, source.jitter(size) - size, source.jitter(x))
                return moved.astype(exact_dtype(self.dtype))

            self._moved.append(self.compute(move))
        exact = part(self.exact)
        return np.max([np.abs(part(outcome) - exact) for outcome in self._moved[:copies]], axis=0)

    def _is_near_underflow(self, exact: Array) -> Array:
        """Return where results are so small that some number on the way may have lost digits to underflow."""
        info = ml_dtypes.finfo(dtype_of(self.dtype))
        return (exact != 0) & (np.abs(exact) < float(info.smallest_normal) / float(info.eps))


def scale_inputs(case: Case, factor: float) -> Case:
    """Return the case with its inputs multiplied, those that stay in their domains."""
    for i, x in enumerate(case.inputs):
        domain = case.op.domain(i)
        scaled = x * x.dtype.type(factor) if isinstance(domain, Interval) else x
        if isinstance(domain, Interval) and all(float(number) in domain for number in scaled.flat):
            case = case.with_input(i, scaled)
    return case


@cache
def rounds(op: Op) -> bool:
    """Return whether some result of the op is rounded; if none is, its formula loses nothing."""
    for seed in range(4):
        block = np.random.default_rng(seed).integers(0, 256, 64, np.uint8)
        case = fill_case(op, op.draw_call(SeededChoices(seed, (2, 3))), "float64", block)
        case = case.map_float_arrays(lambda x: x.astype(np.float32))
        narrow, wide = run_spec(case), run_spec(case.map_float_arrays(lambda x: x.astype(np.float64)))
        if np.any(narrow.value != wide.value):
            return True
        if any(np.any(narrow.gradients[name] != d) for name, d in wide.gradients.items()):
            return True
    return False


def is_function_of_one_argument(op: Op) -> bool:
    """Return whether `make_grid_case` has a case of this op."""
    return op.elementwise and len(op.arguments) == 1


def make_grid_case(op: Op, dtype: str, keywords: Mapping[str, Any]) -> Case:
    """Return a case of a function of one argument: numbers of all sizes that matter, and of both signs."""
    sizes = 2.0**LOGARITHMS_OF_GRID
    candidates = np.concatenate([[0.0], sizes, -sizes]).astype(dtype_of(dtype))
    domain = op.domain(0)
    assert isinstance(domain, Interval)
    x = np.array([number for number in candidates if float(number) in domain], candidates.dtype)
    block = np.random.default_rng(0).integers(0, 256, 64, np.uint8)
    return Case(op, dtype, (x,), dict(keywords), fill_cotangent(dtype, x.shape, block))
