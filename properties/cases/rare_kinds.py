"""The kinds of rare cases: of unusual numbers, keywords and shapes, and of many elements."""

from collections.abc import Callable, Iterator, Sequence

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.many_elements import large, left_behind_by_tiles, long_sums, many_ties
from gradspec.properties.cases.rare import (
    axes_all_alike,
    far_from_zero,
    infinities,
    metadata_as_numpy_numbers,
    one_uniform_array,
    sizes_of_numbers,
    unusual_calls,
    unusual_cotangents,
)
from gradspec.reference.op import Op

RareKind = Callable[[Op, Sequence[str]], Iterator[Case]]
"""Yields the rare cases of an op of one kind, in every dtype or in each of them in turn."""

RARE_KINDS: tuple[RareKind, ...] = (
    unusual_cotangents,
    far_from_zero,
    sizes_of_numbers,
    metadata_as_numpy_numbers,
    axes_all_alike,
    infinities,
    unusual_calls,
    one_uniform_array,
)
MANY_ELEMENTS_KINDS: tuple[RareKind, ...] = (left_behind_by_tiles, large, long_sums, many_ties)

KINDS_NEAR_KINKS = (many_ties, sizes_of_numbers, infinities)


def iterate_rare_cases(forms: Sequence[Op], kind: RareKind, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield the rare cases of a kind that are defined, without those that are near a kink by chance.

    Args:
        forms: The op, or the op with each of several values picked.
        kind: The kind.
        dtypes: The dtypes.
    """
    for op in forms:
        for case in map(Case.settle, kind(op, dtypes)):
            if kind in KINDS_NEAR_KINKS or not (op.kinks and op.differentiable) or case.is_smooth:
                yield case
