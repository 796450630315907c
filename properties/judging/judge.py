"""The judge of a case, and that of a computation on the spec as a backend."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import Result, run_spec
from gradspec.properties.cases.kinks import iterate_kink_sides
from gradspec.properties.cases.observed.sums import adds_up_backward, adds_up_forward
from gradspec.properties.judging.computation_judge import (
    ALLOWED_FACTOR,
    JITTERED_COPY_COUNTS,
    ComputationJudge,
    T,
    ulp,
)
from gradspec.properties.judging.formula_samples import (
    OVERFLOW_HEADROOM,
    Compute,
    ConvertToPrecision,
    compute_quietly,
)
from gradspec.properties.judging.judgement import Judgement, Verdict, combine_judgements
from gradspec.properties.judging.shared_samples import find_shared
from gradspec.properties.judging.spec_backend import SPEC_BACKEND, get_spec_backend, list_usual_spec_backends
from gradspec.reference.rule import Array

__all__ = [
    "ALLOWED_FACTOR", "JITTERED_COPY_COUNTS", "OVERFLOW_HEADROOM", "SPEC_BACKEND", "ComputationJudge",
    "Judge", "Judgement", "Verdict", "combine_judgements", "get_spec_backend", "make_spec_judge", "ulp",
]  # fmt: skip

FLOAT16_HEADROOM = 4  # within this factor of overflow, another order of operations may overflow
FLOAT16_HEADROOM_OF_SUMS = 1.25  # of sums, which are added up at more precision

NEIGHBOURS = 64  # inputs near those of a case on which the signs of a usual formula are looked at
NEIGHBOUR_DISTANCE = 2.0**-10  # relative: far enough that its roundings differ, near enough to be alike

MAX_KINK_SIDES_OF_FLUSHED = 8  # that are tried, where inputs lie on a kink once they are flushed


class Judge(ComputationJudge[Result]):
    """Judges the value and the gradients of one case."""

    def __init__(self, case: Case) -> None:
        super().__init__(
            case.dtype,
            _make_computation(case),
            case.op.differentiable,
            [_make_computation(replace(case, op=form)) for form in case.op.usual_forms],
        )
        self.formulas = find_shared(case, lambda: self.formulas)
        self.case = case
        self.flushed.compute_sides = self._differentiate_on_sides

    def find_brink(self, exact: Array) -> Array:
        """Return where an infinity or NaN tells nothing, since another order of operations may overflow.

        In float16 hardly a number is far from overflow. Whoever adds up elements there does so at more
        precision; else what is met on the way tells.
        """
        if self.dtype != "float16":
            return super().find_brink(exact)
        op = self.case.op
        is_sum = not op.elementwise and (adds_up_forward(op) or adds_up_backward(op))
        limit = float(np.finfo(np.float16).max) / (FLOAT16_HEADROOM_OF_SUMS if is_sum else FLOAT16_HEADROOM)
        is_met_on_the_way = not is_sum and self.samples.peak > limit
        return (np.abs(exact) > limit) | is_met_on_the_way

    def judge_value(self, got: Array) -> Judgement:
        """Judge whether `got` is the value of the case."""
        return self.judge("value", got, lambda r: r.value)

    def judge_gradient(self, argument: str, got: Array) -> Judgement:
        """Judge whether `got` is the gradient of this argument."""
        return self.judge(f"gradient of {argument}", got, lambda r: r.gradients[argument])

    def judge_gradients(self, got: dict[str, Array]) -> Judgement:
        """Judge whether every gradient, by argument, is right."""
        return combine_judgements([self.judge_gradient(name, d) for name, d in got.items()])

    def _differentiate_on_sides(self, flush: ConvertToPrecision) -> list[Result]:
        """Return the spec's results on the sides of the kinks that inputs are on only if they are flushed."""
        flushed = self.case.map_float_arrays(flush)
        distances = zip(flushed.compute_kink_distances(), self.case.compute_kink_distances(), strict=True)
        if not any(np.any((now == 0) & (before != 0)) for now, before in distances):
            return []
        return [run_spec(side) for side in islice(iterate_kink_sides(flushed), MAX_KINK_SIDES_OF_FLUSHED)]

    def _find_strange_signs(
        self, part: Callable[[Result], Array], got: Array, exact: Array, lossy: Array
    ) -> Array:
        """Return where a lossy result has a sign that no usual formula gives near these inputs.

        Asked of elementwise ops alone, whose elements are looked at one by one: where elements are combined,
        cancellation may leave either sign.
        """
        strange = lossy & (np.sign(got.astype(exact.dtype)) * np.sign(exact) < 0)
        if not (self.case.op.elementwise and np.any(strange)):
            return np.zeros(exact.shape, np.bool_)
        forms = [replace(self.case, op=form) for form in self.case.op.usual_forms]
        for seed in range(NEIGHBOURS):
            rng = np.random.default_rng(seed)

            def move(x: Array, rng: np.random.Generator = rng) -> Array:
                wide = x.astype(np.float32) if x.itemsize == 2 else x
                return (wide * (1 + NEIGHBOUR_DISTANCE * rng.uniform(-1, 1, x.shape))).astype(wide.dtype)

            for form in forms:
                neighbour = part(compute_quietly(_make_computation(form), move))
                strange &= np.sign(neighbour) != np.sign(got.astype(exact.dtype))
        return strange


def make_spec_judge(
    dtype: str, compute: Callable[[Backend, ConvertToPrecision], T], names: Collection[str]
) -> ComputationJudge[T]:
    """Return a judge of a computation on the spec as a backend, for laws about more than one call of an op.

    Args:
        dtype: The dtype of the results that are judged.
        compute: The computation: of a backend, and of what is applied to each array it starts from.
        names: The ops whose usual formulas count.
    """
    stable, *usual = [
        partial(compute, spec) for spec in (get_spec_backend(), *list_usual_spec_backends(names))
    ]
    return ComputationJudge(dtype, stable, usual=usual)


def _make_computation(case: Case) -> Compute[Result]:
    return lambda convert: run_spec(case.map_float_arrays(convert))
