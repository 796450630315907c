"""Sources of choices for calls that are made on purpose: of many axes, or with an axis of a given length."""

import math
from collections.abc import Sequence

from gradspec.reference.calls import Call, IntegerArrayBelow, SeededChoices
from gradspec.reference.op import Op

CALLS_TO_CHOOSE_FROM = 6


class ManyAxesChoices(SeededChoices):
    """The `Choices` of a call of as many axes as there may be, of the given lengths in turn."""

    def size(self, taken: int) -> int:
        self.sizes_drawn += 1
        return self.lengths[(self.sizes_drawn - 1) % len(self.lengths)]

    def rank(self, low: int, high: int) -> int:
        return high

    sizes_drawn = 0


class OneLongAxisChoices(SeededChoices):
    """The `Choices` of a call with one axis of a given length; the others have one or two elements.

    A call with fewer axes than come before it has no such axis; `has_long_axis` says so.
    """

    def __init__(self, seed: int, length: int, axes_before: int) -> None:
        super().__init__(seed, (2, 1, 2))
        self.length, self.axes_before, self.sizes_drawn, self.has_long_axis = length, axes_before, 0, False

    def size(self, taken: int) -> int:
        self.sizes_drawn += 1
        is_long = self.sizes_drawn > self.axes_before and not self.has_long_axis and taken <= 4
        self.has_long_axis = self.has_long_axis or is_long
        return self.length if is_long else self.of(self.lengths)

    def rank(self, low: int, high: int) -> int:
        return min(max(low, self.axes_before + 1), high)


def draw_largest_call(op: Op, seed: int, lengths: Sequence[int]) -> Call:
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


def draw_call_with_long_axis(op: Op, seed: int, length: int, axes_before: int) -> Call | None:
    """Return a call with an axis of this length after so many others; None if none of several has one."""
    for i in range(CALLS_TO_CHOOSE_FROM):
        choose = OneLongAxisChoices(CALLS_TO_CHOOSE_FROM * seed + i, length, axes_before)
        call = op.draw_call(choose)
        if choose.has_long_axis and length in {n for s in list_shapes(call) for n in s}:
            return call
    return None


def list_shapes(call: Call) -> list[tuple[int, ...]]:
    """Return the shapes of the arrays of a call."""
    return [s.shape if isinstance(s, IntegerArrayBelow) else s for s in call.shapes]


def count_elements(call: Call) -> int:
    """Return how many elements the arrays of a call have."""
    return sum(map(math.prod, list_shapes(call)))
