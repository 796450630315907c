"""The calls that an op can be tried with: shapes and keywords, drawn from a source of choices.

Most ops declare them by a signature such as "(m?,n),(n,p?)->(m?,p?)" (see `signatures`). Ops whose arguments
constrain each other declare them by a function of a `Choices`, a protocol that a property-based tester, a
benchmark and a test can each implement in a few lines.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol, TypeVar

import numpy as np

from gradspec.reference.axes import normalize_axes
from gradspec.reference.rule import Array

T = TypeVar("T")
Shape = tuple[int, ...]


class Choices(Protocol):
    """A source of choices. Earlier options and lower numbers count as simpler than later and higher ones."""

    def of(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        ...

    def integer(self, low: int, high: int) -> int:
        """Return an integer from low to high, both included."""
        ...

    def size(self, taken: int) -> int:
        """Return the length of an axis of an array that has `taken` elements without this axis."""
        ...

    def rank(self, low: int, high: int) -> int:
        """Return the rank of an array, from low to high, both included."""
        ...


class SmallestChoices:
    """A source that always takes the simplest option: it draws an op's smallest call, of axes of length 1."""

    def of(self, options: Sequence[T]) -> T:
        return options[0]

    def integer(self, low: int, high: int) -> int:
        return low

    def size(self, taken: int) -> int:
        return 1

    def rank(self, low: int, high: int) -> int:
        return low


class SeededChoices:
    """A source that chooses at random, the same for the same seed; axes have one of the `lengths`."""

    def __init__(self, seed: int, lengths: Sequence[int] = (0, 1, 2, 3)) -> None:
        self.random = Random(seed)
        self.lengths = lengths

    def of(self, options: Sequence[T]) -> T:
        return self.random.choice(options)

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def size(self, taken: int) -> int:
        return self.of(self.lengths)

    def rank(self, low: int, high: int) -> int:
        return self.integer(low, high)


@dataclass(frozen=True)
class IntegerArrayBelow:
    """Stands for an integer array of this shape with elements in low..bound-1.

    Attributes:
        shape: its shape.
        bound: what its elements are below.
        low: the least of them: 0, or -bound where indices may count from the end.
        spare: a number outside the range that may occur, too: what is ignored, such as a target of -100.
        distinct_along: the axis along which no place recurs, as of places that are written to.
    """

    shape: Shape
    bound: int
    low: int = 0
    spare: int | None = None
    distinct_along: int | None = None

    def __post_init__(self) -> None:
        if not -self.bound <= self.low <= 0:
            raise ValueError(f"{self}: low must be from {-self.bound} to 0")
        most = 0 if self.distinct_along is None else self.shape[self.distinct_along]
        if most > self.bound:
            raise ValueError(f"{self}: there are no {most} distinct places")

    def pick(self, picks: Array) -> Array:
        """Return such an array.

        Args:
            picks: what picks the elements: integers from 0 on, as many as the array has elements; 0 is the
                simplest.
        """
        picks = np.asarray(picks).astype(np.int64).reshape(self.shape)
        if self.distinct_along is not None:
            return self._pick_distinct(picks, self.distinct_along)
        count = max(self.bound, 0) - self.low
        picks = picks % max(count + (self.spare is not None), 1)
        chosen = np.where(picks < self.bound, picks, self.bound - 1 - picks)
        return chosen if self.spare is None else np.where(picks == count, self.spare, chosen)

    def _pick_distinct(self, picks: Array, axis: int) -> Array:
        """Return integers of which no two are one place along an axis: the first of a shuffled order."""
        picks = np.moveaxis(picks, axis, -1)
        seeds = np.sum(picks, axis=-1, keepdims=True)
        keys = np.where(seeds > 0, seeds * (np.arange(self.bound) + 3) * 7919 % 1009, 0)
        places = np.argsort(keys, axis=-1, kind="stable")[..., : picks.shape[-1]]
        from_the_end = (picks % 2 == 1) & (places - self.bound >= self.low)
        return np.moveaxis(np.where(from_the_end, places - self.bound, places), -1, axis)


@dataclass(frozen=True)
class Call:
    """The shapes of the array arguments (`IntegerArrayBelow` for indices) and the keywords of one call."""

    shapes: tuple[Shape | IntegerArrayBelow, ...]
    keywords: dict[str, Any] = field(default_factory=dict)


DrawCall = Callable[[Choices], Call]


def count_max_elements(*lengths: int) -> int:
    """Return how many elements an array with these axes may have: some calls replace length 0 by 1."""
    return math.prod(n or 1 for n in lengths)


def draw_shape(choose: Choices, low: int = 0, high: int = 4, other_lengths: Shape = ()) -> Shape:
    """Return a shape of rank low to high, for an array that also has axes of `other_lengths`."""
    lengths: list[int] = []
    for _ in range(choose.rank(low, high)):
        lengths.append(choose.size(count_max_elements(*lengths, *other_lengths)))
    return tuple(lengths)


def draw_broadcastable_shape(choose: Choices, full: Shape) -> Shape:
    """Return a shape that broadcasts to `full`: itself, or leading axes dropped and others of length 1."""
    if choose.of([True, False]):
        return full
    return tuple(choose.of([n, 1]) for n in full[choose.integer(0, len(full)) :])


def draw_mutually_broadcastable_shapes(choose: Choices, full: Shape, count: int) -> list[Shape]:
    """Return `count` shapes that together broadcast to `full`; often each of them is broadcast to another.

    On every axis one shape keeps the length and any other may have length 1, and leading axes of length 1 may
    be dropped; in one of four draws, however, all shapes are `full`.
    """
    if count > 1 and choose.of([False, False, False, True]):
        return [full] * count
    shapes: list[Shape] = [()] * count
    for n in full if count else ():
        keeper = choose.integer(0, count - 1)
        shapes = [(*s, n if i == keeper else choose.of([n, 1])) for i, s in enumerate(shapes)]
    ones = [next((k for k, n in enumerate(s) if n != 1), len(s)) for s in shapes]
    return [s[choose.integer(0, k) :] for s, k in zip(shapes, ones, strict=True)]


def draw_axis(choose: Choices, ndim: int) -> int:
    """Return one axis of an array of ndim > 0 dimensions, counted from either end."""
    return choose.of(list(range(ndim)) + list(range(-ndim, 0)))


def draw_permutation(choose: Choices, n: int) -> tuple[int, ...]:
    """Return the numbers 0..n-1 in some order."""
    rest = list(range(n))
    return tuple(rest.pop(choose.integer(0, len(rest) - 1)) for _ in range(n))


def draw_axis_signs(choose: Choices, axes: Sequence[int], ndim: int) -> tuple[int, ...]:
    """Return the same axes, each counted from the front or from the back."""
    return tuple(a - ndim if choose.of([False, True]) else a for a in axes)


def draw_axes(choose: Choices, ndim: int) -> int | tuple[int, ...] | None:
    """Return None, one axis, or a tuple of distinct axes in any order, each counted from either end."""
    kind = choose.of(["none", "one", "tuple", "one"] if ndim else ["none", "tuple"])
    if kind == "none":
        return None
    if kind == "one":
        return draw_axis(choose, ndim)
    return draw_axis_signs(choose, draw_permutation(choose, ndim)[: choose.integer(0, ndim)], ndim)


def draw_reduction(choose: Choices, *, empty: bool = True, **more: Any) -> Call:
    """Draw a call of a reduction: any shape, `axis` None, an integer or a tuple, and `keepdims`.

    Args:
        choose: the source of choices.
        empty: whether the op has a value for no elements at all.
        **more: further keywords of the call.
    """
    x = draw_shape(choose)
    axis = draw_axes(choose, len(x))
    if not empty:
        axes = normalize_axes(axis, len(x))
        x = tuple(n or 1 if i in axes else n for i, n in enumerate(x))
    return Call((x,), {"axis": axis, "keepdims": choose.of([False, True]), **more})


def draw_nonempty_reduction(choose: Choices) -> Call:
    """Draw a call of a reduction that has no value for no elements, such as max."""
    return draw_reduction(choose, empty=False)


def draw_along_axis(choose: Choices) -> Call:
    """Draw a call of an op along one axis that keeps the shape, such as softmax.

    The shape has any rank from 1 on; the axis may be any, and is not empty.
    """
    x = draw_shape(choose, 1)
    axis = draw_axis(choose, len(x))
    return Call((tuple(n or 1 if i == axis % len(x) else n for i, n in enumerate(x)),), {"axis": axis})
