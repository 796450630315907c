"""Which elements of a case's outcome are firm: which had no extraordinary number a part in them?

The spec is asked. Every extraordinary number is marked as NaN; what is not NaN in the outcome and as before
is firm, unless large numbers of either sign in its place change it: a sort moves NaN to the end. A number is
extraordinary if it is NaN, an infinity that is no ordinary input of the op (`infinities`), or so large or
small that a few operations may lose it. An element of the value that is not firm, or that depends on
infinities alone, as that of a row of -inf throughout does, gets a cotangent of NaN: so all that goes into it
counts as touched. Where the op lets no such cotangent through, as a maximum does where another element wins,
what goes into it is observed: each number in turn is made NaN, to see whether that element changes. In a
formula NaN goes further than the spec lets it: through masks, which kernels multiply by (`touching`).

A gradient that ignores all numbers, as that of a sum does, is firm throughout. An infinite cotangent counts
as one of NaN: what does not go into its element of the value is firm.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np

from gradspec.properties.cases.case import Case, exact_dtype
from gradspec.properties.cases.evaluate import Result, run_spec
from gradspec.properties.cases.infinities import (
    compute_value,
    find_lone_infinities,
    find_ordinary_infinities,
    ignores_numbers,
)
from gradspec.properties.cases.touching import run_touching
from gradspec.reference.domains import Domain, Interval
from gradspec.reference.op import fill_from_domain
from gradspec.reference.rule import Array

LARGEST_ORDINARY = {"float64": 2.0**16, "float32": 2.0**8, "bfloat16": 2.0**8, "float16": 4.0}
"""By dtype; the smallest is its reciprocal. Squares and products of a few such numbers are ordinary, too."""

MAX_ELEMENTS_OBSERVED = 64
"""Of the arrays of a case whose elements are made NaN in turn; in a larger one nothing is firm then."""


@dataclass(frozen=True, eq=False)
class FirmElements:
    """The firm elements of a case, and the case with ordinary numbers in place of extraordinary ones.

    Attributes:
        case: The case.
    """

    case: Case

    @cached_property
    def ordinary_case(self) -> Case:
        """The case with ordinary numbers in place of extraordinary ones: firm elements stay the same.

        Infinities that are not firm have gone as well, for a row of nothing else is no ordinary row: its
        logarithm of 0 looks like an overflow. So have infinite cotangents.
        """
        case, inputs = self._replace_extraordinary(self.case, 1), []
        for i, (x, infinite) in enumerate(zip(case.inputs, self._ordinary_infinities, strict=True)):
            firm = self.outcome.gradients.get(case.op.argument_name(i), np.True_)
            inputs.append(np.where(infinite & ~firm, 1, x).astype(x.dtype) if np.any(infinite & ~firm) else x)
        cotangent = np.where(self._infinite_cotangents, 1, case.cotangent).astype(case.cotangent.dtype)
        return replace(case, inputs=tuple(inputs), cotangent=cotangent)

    @cached_property
    def outcome(self) -> Result:
        """For the value and each gradient, which elements are firm."""
        case, exact = self._exact_case, _run_quietly(self._exact_case)
        marked_inputs = _replace_where(self._extraordinary, case.inputs, repeat(np.nan))
        marked_case = replace(case, inputs=marked_inputs)
        marked = run_touching(marked_case)
        # NaN equals nothing.
        open_value = (marked.value != exact.value) | self._lone
        if any(map(np.any, self._extraordinary)):
            largest = LARGEST_ORDINARY[case.dtype]
            for number in (largest, -largest):
                open_value |= compute_value(self._replace_extraordinary(case, number)) != exact.value
        touched = open_value | self._infinite_cotangents
        if np.any(touched):
            cotangent = np.where(touched, np.nan, case.cotangent)
            marked = run_touching(replace(marked_case, cotangent=cotangent))
        gradients = {}
        for i in case.differentiable_inputs:
            name = case.op.argument_name(i)
            if ignores_numbers(case.op, i) and not np.any(self._infinite_cotangents):
                gradients[name] = np.full(case.inputs[i].shape, True)
                continue
            gradients[name] = marked.gradients[name] == exact.gradients[name]
            if np.any(touched) and name in self._gradients_that_lose_nan:
                gradients[name] &= ~self._find_parts(i, touched)
        return Result(~open_value, gradients)

    def _replace_extraordinary(self, case: Case, number: float) -> Case:
        """Return the case with this number for extraordinary ones, or another if it is outside the domain."""
        numbers = (
            number if number in domain else fill_from_domain(domain, ())
            for domain in (d if isinstance(d, Interval) else Interval() for d in self._domains)
        )
        return replace(case, inputs=_replace_where(self._extraordinary, case.inputs, numbers))

    @cached_property
    def _exact_case(self) -> Case:
        return self.case.map_float_arrays(lambda x: x.astype(exact_dtype(self.case.dtype)))

    @cached_property
    def _infinite_cotangents(self) -> Array:
        return np.isinf(self.case.cotangent)

    @property
    def _domains(self) -> list[Domain]:
        return [self.case.op.domain(i) for i in range(len(self.case.inputs))]

    @cached_property
    def _ordinary_infinities(self) -> tuple[Array, ...]:
        """For each input, which elements are infinities that are ordinary there."""
        op = self.case.op
        return tuple(
            np.isin(x, find_ordinary_infinities(op, i)) for i, x in enumerate(self._exact_case.inputs)
        )

    @cached_property
    def _extraordinary(self) -> tuple[Array, ...]:
        """For each input, which elements are extraordinary."""
        largest = LARGEST_ORDINARY[self.case.dtype]

        def is_ordinary(size: Array) -> Array:
            return (size == 0) | ((1 / largest <= size) & (size <= largest))

        return tuple(
            ~(is_ordinary(np.abs(x)) | infinite) if isinstance(domain, Interval) else np.full(x.shape, False)
            for x, infinite, domain in zip(
                self._exact_case.inputs, self._ordinary_infinities, self._domains, strict=True
            )
        )

    @cached_property
    def _lone(self) -> Array:
        """Which elements of the value depend on infinities alone."""
        if not any(map(np.any, self._ordinary_infinities)):
            return np.full(self.case.cotangent.shape, False)
        return find_lone_infinities(self._exact_case, self._ordinary_infinities)

    @cached_property
    def _gradients_that_lose_nan(self) -> list[str]:
        """The arguments whose gradients are not NaN throughout where the cotangent is."""
        cotangent = np.full(self.case.cotangent.shape, np.nan)
        probe = run_touching(replace(self._exact_ordinary_case, cotangent=cotangent))
        return [name for name, gradient in probe.gradients.items() if not np.all(np.isnan(gradient))]

    @cached_property
    def _exact_ordinary_case(self) -> Case:
        return self._replace_extraordinary(self._exact_case, 1)

    def _find_parts(self, i: int, value_elements: Array) -> Array:
        """Return which elements of the i-th input have a part in any of these elements of the value."""
        case = self._exact_ordinary_case
        x = case.inputs[i]
        if x.size > MAX_ELEMENTS_OBSERVED:
            return np.full(x.shape, True)
        parts, before = np.full(x.shape, False), compute_value(case)
        for k in range(x.size):
            changed = x.copy()
            changed.flat[k] = np.nan
            after = compute_value(case.with_input(i, changed))
            parts.flat[k] = np.any(value_elements & (after != before))
        return parts


def _replace_where(
    places: Iterable[Array], inputs: Iterable[Array], numbers: Iterable[Any]
) -> tuple[Array, ...]:
    """Return the inputs with another number in these places of each, in the dtypes they have."""
    return tuple(
        np.where(at, number, x).astype(x.dtype) if np.any(at) else x
        for at, x, number in zip(places, inputs, numbers, strict=False)
    )


def _run_quietly(case: Case) -> Result:
    with np.errstate(all="ignore"):
        return run_spec(case)
