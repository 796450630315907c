"""Which axes are equally long in every call that an op draws, and which one its integers index.

A formula may take more: where one axis has a single element NumPy broadcasts it, and a comparison with an
index that is too large is False. A kernel owes no answer to calls that the op's declaration never draws.
"""

import itertools
from dataclasses import dataclass
from functools import lru_cache

from gradspec.properties.cases.observed.sample_cases import SAMPLE_AXIS_LENGTHS, observe_once
from gradspec.properties.cases.regular_choices import list_shapes
from gradspec.reference.calls import Call, IntegerArrayBelow, SeededChoices
from gradspec.reference.op import Op

DRAWN_CALLS = 60

Place = tuple[int, int]
"""The number of an array, and of one of its axes."""


@dataclass(frozen=True)
class TiedLengths:
    """What holds of the lengths in all calls whose arrays have as many axes.

    Attributes:
        equal: Pairs of axes that are equally long.
        bounds: Axes whose length is what integers are below.
    """

    equal: frozenset[frozenset[Place]]
    bounds: frozenset[Place]

    def allow_change(self, axes: tuple[int | None, ...]) -> bool:
        """Return whether one axis of each array, or none of it, may get another length, the same for all."""
        changed = {(i, axis) for i, axis in enumerate(axes) if axis is not None}
        return not changed & self.bounds and all(len(pair & changed) != 1 for pair in self.equal)


@lru_cache(maxsize=256)
def observe_tied_lengths(op: Op, ranks: tuple[int, ...]) -> TiedLengths:
    """Return what holds of the lengths in the calls of an op whose arrays have so many axes.

    Only of lengths that differ from call to call is anything said.
    """
    calls = [call for call in _draw_calls(op) if tuple(map(len, list_shapes(call)))[: len(ranks)] == ranks]
    lengths = {
        (i, axis): tuple(list_shapes(call)[i][axis] for call in calls)
        for i, rank in enumerate(ranks)
        for axis in range(rank)
    }
    lengths = {place: of_calls for place, of_calls in lengths.items() if len({*of_calls}) > 1}
    bounds = {*zip(*map(_list_bounds, calls), strict=False)}
    return TiedLengths(
        frozenset(frozenset(p) for p in itertools.combinations(lengths, 2) if lengths[p[0]] == lengths[p[1]]),
        frozenset(place for place, of_calls in lengths.items() if of_calls in bounds),
    )


@observe_once
def _draw_calls(op: Op) -> tuple[Call, ...]:
    return tuple(op.draw_call(SeededChoices(seed, SAMPLE_AXIS_LENGTHS)) for seed in range(DRAWN_CALLS))


def _list_bounds(call: Call) -> list[int]:
    return [shape.bound for shape in call.shapes if isinstance(shape, IntegerArrayBelow)]
