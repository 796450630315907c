"""Sources of choices for calls that are made on purpose: of many axes, or with an axis of a given length."""

import math
from functools import cache

import numpy as np

from gradspec.properties.cases.memory import fits_in_memory, shorten
from gradspec.reference.calls import Call, IntegerArrayBelow, SeededChoices
from gradspec.reference.op import Op, fill_from_domain

CALLS_TO_CHOOSE_FROM = 6
LONG_CALLS_TRIED = 40
MAX_AXES_BEFORE = 3  # of a long axis, in the order in which they are drawn
SQUARE_CALLS_TRIED = 40
SHORT_SIDE = 33  # of a square in place of which the value of a larger one is compared with others


class ManyAxesChoices(SeededChoices):
    """The `Choices` of a call of as many axes as there may be, of the given lengths in turn."""

    def size(self, taken: int) -> int:
        self.sizes_drawn += 1
        return self.lengths[(self.sizes_drawn - 1) % len(self.lengths)]

    def rank(self, low: int, high: int) -> int:
        return high

    sizes_drawn = 0


class OneLongAxisChoices(SeededChoices):
    """The `Choices` of a call with one axis of a given length; the others are short.

    A call with no more axes than come before it has no such axis.
    """

    def __init__(self, seed: int, length: int, axes_before: int, lengths: tuple[int, ...]) -> None:
        super().__init__(seed, lengths)
        self.length, self.axes_before, self.sizes_drawn, self.has_long_axis = length, axes_before, 0, False

    def size(self, taken: int) -> int:
        self.sizes_drawn += 1
        is_long = self.sizes_drawn > self.axes_before and not self.has_long_axis and taken <= 12
        self.has_long_axis = self.has_long_axis or is_long
        return self.length if is_long else self.of(self.lengths)

    def rank(self, low: int, high: int) -> int:
        return self.integer(low, min(low + 2, high))


class SquareChoices(SeededChoices):
    """The `Choices` of a call with two axes of a given length, next to each other; the others are short."""

    def __init__(self, seed: int, side: int, axes_before: int) -> None:
        super().__init__(seed, (2, 1))
        self.side, self.long_axes, self.sizes_drawn = side, range(axes_before, axes_before + 2), 0

    def size(self, taken: int) -> int:
        self.sizes_drawn += 1
        return self.side if self.sizes_drawn - 1 in self.long_axes else self.of(self.lengths)

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
def list_calls_with_long_axis(
    op: Op, length: int, *, by_rank: bool = False, max_elements: float = math.inf
) -> tuple[Call, ...]:
    """Return calls with an axis of this length, each in another place: first or last, in this array or that.

    Those in which fewer arrays are long come first, so that their rows share the others.

    Args:
        op: The op.
        length: The length of the axis.
        by_rank: Whether calls count as different, too, if another of their arrays has several axes.
        max_elements: How many elements all arrays may have: where they would have more, or the spec would
            need too much memory, all other axes have one, and where that is too many, too, the call is left
            out.
    """

    def fits(call: Call) -> bool:
        return count_elements(call) <= max_elements and fits_in_memory(op, call, length)

    by_places: dict[tuple[tuple[tuple[int, int], ...], tuple[bool, ...]], Call] = {}
    for seed in range(LONG_CALLS_TRIED):
        axes_before = seed % MAX_AXES_BEFORE
        call = op.draw_call(OneLongAxisChoices(seed, length, axes_before, (3, 1, 4)))
        if not fits(call):
            call = op.draw_call(OneLongAxisChoices(seed, length, axes_before, (1,)))
        if (places := _find_axes(call, length)) and fits(call):
            ranks = tuple(len(s) > 1 for s in list_shapes(call) if by_rank)
            by_places.setdefault((places, ranks), call)
    return tuple(by_places[k] for k in sorted(by_places, key=lambda k: (len(k[0]), k)))


@cache
def list_square_calls(op: Op, side: int, max_elements: int) -> tuple[Call, ...]:
    """Return calls of which an array has `side` squared elements or more, each with them in other places.

    Args:
        op: The op.
        side: The length of two of the axes.
        max_elements: How many elements all arrays may have.

    Returns:
        The calls; of those with the same places, the one of fewest axes, and then with the largest value.
    """
    by_places: dict[tuple[tuple[int, int], ...], list[Call]] = {}
    calls = (op.draw_call(SquareChoices(seed, side, seed % 3)) for seed in range(SQUARE_CALLS_TRIED))
    for call in calls:
        is_large = max(map(math.prod, list_shapes(call))) >= side**2
        if is_large and count_elements(call) <= max_elements and fits_in_memory(op, call, side):
            by_places.setdefault(_find_axes(call, side), []).append(call)
    return tuple(
        _find_fewest_axes(op, by_places[places], side)
        for places in sorted(by_places, key=lambda p: (len(p), p))
    )


def _find_fewest_axes(op: Op, calls: list[Call], side: int) -> Call:
    """Return the call of fewest axes, and of those the one with the largest value.

    Shorter ones like them tell which that is, if the op takes all of them.
    """
    ranks = [sum(map(len, list_shapes(call))) for call in calls]
    calls = [call for call, rank in zip(calls, ranks, strict=True) if rank == min(ranks)]
    short = [shorten(call, side, SHORT_SIDE) for call in calls]
    compared = short if all(is_accepted(op, call) for call in short) else calls
    sizes = [math.prod(compute_value_shape(op, call)) for call in compared]
    return calls[sizes.index(max(sizes))]


def _find_axes(call: Call, length: int) -> tuple[tuple[int, int], ...]:
    """Return which axes, counted from the end, of which arrays of a call have this length."""
    shapes = list_shapes(call)
    return tuple((i, k - len(s)) for i, s in enumerate(shapes) for k, n in enumerate(s) if n == length)


def compute_value_shape(op: Op, call: Call) -> tuple[int, ...]:
    """Return the shape of the value of a call."""
    inputs = [fill_from_domain(op.domain(i), s) for i, s in enumerate(call.shapes)]
    with np.errstate(all="ignore"):
        return np.shape(op.compute_value(*inputs, **call.keywords))


def is_accepted(op: Op, call: Call) -> bool:
    """Return whether the spec accepts a call that the op's declaration does not draw.

    What a keyword of some name may be, another op with such a keyword may refuse.
    """
    try:
        compute_value_shape(op, call)
    except Exception:
        return False
    return True


def list_shapes(call: Call) -> list[tuple[int, ...]]:
    """Return the shapes of the arrays of a call."""
    return [s.shape if isinstance(s, IntegerArrayBelow) else s for s in call.shapes]


def count_elements(call: Call) -> int:
    """Return how many elements the arrays of a call have."""
    return sum(map(math.prod, list_shapes(call)))
