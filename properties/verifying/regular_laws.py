"""The laws that are asked of regular cases, always the same, and which of these `verify` has time for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.extremes import iterate_extreme_cases
from gradspec.properties.cases.laid_out import iterate_cases_in_every_layout
from gradspec.properties.cases.many_elements import large
from gradspec.properties.cases.rare import (
    axes_all_alike,
    far_from_zero,
    infinities,
    keywords_at_their_ends,
    metadata_as_numpy_numbers,
    of_every_size,
    one_uniform_array,
)
from gradspec.properties.cases.rare_kinds import MANY_ELEMENTS_KINDS, RARE_KINDS, RareKind, iterate_rare_cases
from gradspec.properties.judging.attempt import Law
from gradspec.properties.laws.extremes import extremes_go_where_the_spec_says
from gradspec.properties.laws.layouts import layout_makes_no_difference
from gradspec.properties.laws.many_elements import cases_of_many_elements_agree
from gradspec.properties.laws.rare_cases import rare_cases_agree
from gradspec.properties.laws.second_order import second_derivatives_agree
from gradspec.reference.op import Op

MAX_ELEMENTS = 100_000
"""Of an input of a case of many elements: what is larger costs a fifth of the time of all others."""

PERIODS: Mapping[RareKind, int] = MappingProxyType(
    {far_from_zero: 3, axes_all_alike: 2, infinities: 2, metadata_as_numpy_numbers: 2, large: 3}
)
"""Of the kinds that are costly, or have many cases, one of so many is judged."""

EXPONENTS_OF_SECOND_DERIVATIVES = range(-6, 6)


@dataclass(frozen=True)
class RegularLaw:
    """A law with its regular cases.

    Attributes:
        property: The name of the property that asks it in a run by pytest.
        law: The law.
        iterate_cases: Yields the cases of forms of an op in some dtypes.
        applies_to: Whether an op of a backend has such cases.
        smooth: Whether simpler cases keep away from kinks.
    """

    property: str
    law: Law
    iterate_cases: Callable[[Sequence[Op], Sequence[str]], Iterable[Case]]
    applies_to: Callable[[Op, Backend], bool] = lambda op, backend: True
    smooth: bool = False


def _iterate_kinds(kinds: Iterable[RareKind], forms: Sequence[Op], dtypes: Sequence[str]) -> Iterator[Case]:
    for kind in kinds:
        yield from islice(iterate_rare_cases(forms, kind, dtypes), None, None, PERIODS.get(kind, 1))


def _iterate_rare(forms: Sequence[Op], dtypes: Sequence[str]) -> Iterator[Case]:
    return _iterate_kinds(RARE_KINDS, forms, dtypes)


def _iterate_many_elements(forms: Sequence[Op], dtypes: Sequence[str]) -> Iterator[Case]:
    for case in _iterate_kinds(MANY_ELEMENTS_KINDS, forms, dtypes):
        if max((x.size for x in case.inputs), default=0) <= MAX_ELEMENTS:
            yield case


def _iterate_keywords(forms: Sequence[Op], dtypes: Sequence[str]) -> Iterator[Case]:
    return _iterate_kinds([keywords_at_their_ends], forms, dtypes)


def _iterate_layouts(forms: Sequence[Op], dtypes: Sequence[str]) -> Iterator[Case]:
    for form in forms:
        yield from iterate_cases_in_every_layout(form, dtypes)


def _iterate_extremes(forms: Sequence[Op], dtypes: Sequence[str]) -> Iterator[Case]:
    for form in forms:
        for dtype in dtypes:
            yield from iterate_extreme_cases(form, dtype)


def _iterate_sizes(forms: Sequence[Op], dtypes: Sequence[str]) -> Iterator[Case]:
    for form in forms:
        yield from of_every_size(form, dtypes, EXPONENTS_OF_SECOND_DERIVATIVES)
        yield from one_uniform_array(form, dtypes)


REGULAR_LAWS = (
    RegularLaw("test_cases_of_many_elements_agree", cases_of_many_elements_agree, _iterate_many_elements),
    RegularLaw("test_rare_cases_agree", rare_cases_agree, _iterate_rare),
    RegularLaw("test_keywords_at_their_ends_agree", rare_cases_agree, _iterate_keywords),
    RegularLaw(
        "test_every_layout_in_turn_makes_no_difference",
        layout_makes_no_difference,
        _iterate_layouts,
        smooth=True,
    ),
    RegularLaw(
        "test_second_derivatives_of_every_size_agree",
        second_derivatives_agree,
        _iterate_sizes,
        lambda op, backend: backend.nests and op.differentiable and op.elementwise,
    ),
    RegularLaw(
        "test_extremes_of_elementwise_ops_go_where_the_spec_says",
        extremes_go_where_the_spec_says,
        _iterate_extremes,
        lambda op, backend: op.elementwise and len(op.arguments) < 3,
    ),
)
"""The most telling first."""
