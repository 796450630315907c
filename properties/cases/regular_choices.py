"""Sources of choices for calls that are made on purpose: of many axes, or with an axis of a given length."""

import math
from functools import cache

from gradspec.reference.calls import Call, IntegerArrayBelow, SeededChoices
from gradspec.reference.op import Op

CALLS_TO_CHOOSE_FROM = 6
LONG_CALLS_TRIED = 40


class ManyAxesChoices(SeededChoices):
    """The `Choices` of a call of as many axes as there may be, of the given lengths in turn."""

    def size(self, taken: int) -> int:
        self.sizes_drawn += 1
        return self.lengths[(self.sizes_drawn - 1) % len(self.lengths)]

    def rank(self, low: int, high: int) -> int:
        return high

    sizes_drawn = 0


class OneLongAxisChoices(SeededChoices):
    """The `Choices` of a call with one axis of a given length; the others have one, three or four elements.

    A call with no more axes than come before it has no such axis.
    """

    def __init__(self, seed: int, length: int, axes_before: int) -> None:
        super().__init__(seed, (3, 1, 4))
        self.length, self.axes_before, self.sizes_drawn, self.has_long_axis = length, axes_before, 0, False

    def size(self, taken: int) -> int:
        self.sizes_drawn += 1
        is_long = self.sizes_drawn > self.axes_before and not self.has_long_axis and taken <= 12
        self.has_long_axis = self.has_long_axis or is_long
        return self.length if is_long else self.of(self.lengths)

    def rank(self, low: int, high: int) -> int:
        return self.integer(low, min(low + 2, high))


@cache
def draw_largest_call(op: Op, seed: int, lengths: tuple[int, ...]) -> Call:
    """Return the call with most elements of several that have as many axes as there may be.

    Args:
        op: The op.
        seed: Chooses the keywords, and what else is left to choose.
        lengths: The lengths of the axes, in turn.
    """
    calls = [
        op.draw_call(ManyAxesChoices(CALLS_TO_CHOOSE_FROM * seed + i, lengths))
        for i in range(CALLS_TO_CHOOSE_FROM)
    ]
    return max(calls, key=count_elements)


@cache
def list_calls_with_long_axis(op: Op, length: int) -> tuple[Call, ...]:
    """Return calls with an axis of this length, each in another place: first or last, in this array or that.

    Those in which fewer arrays are long come first, so that their rows share the others.
    """
    by_places: dict[tuple[tuple[int, int], ...], Call] = {}
    for seed in range(LONG_CALLS_TRIED):
        choose = OneLongAxisChoices(seed, length, seed % 3)
        call = op.draw_call(choose)
        shapes = list_shapes(call)
        places = tuple((i, k - len(s)) for i, s in enumerate(shapes) for k, n in enumerate(s) if n == length)
        if places:
            by_places.setdefault(places, call)
    return tuple(by_places[places] for places in sorted(by_places, key=lambda p: (len(p), p)))


def list_shapes(call: Call) -> list[tuple[int, ...]]:
    """Return the shapes of the arrays of a call."""
    return [s.shape if isinstance(s, IntegerArrayBelow) else s for s in call.shapes]


def count_elements(call: Call) -> int:
    """Return how many elements the arrays of a call have."""
    return sum(map(math.prod, list_shapes(call)))
