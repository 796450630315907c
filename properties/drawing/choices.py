"""The `Choices` that a call is drawn by: read off a block of bytes."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from gradspec.properties.cases.sizes import AXIS_LENGTHS, REPEATED_LENGTH_WEIGHT

T = TypeVar("T")


class DrawnChoices:
    """The `Choices` of Hypothesis: read off a block of bytes, zeros being the simplest; when it ends, at random.

    Choices drawn one by one cost more, and few of the calls would be new: Hypothesis likes to copy one choice to the place
    of another of its kind, in five of six examples.
    """

    def __init__(
        self, block: bytes, max_elements: int, rng: np.random.Generator, prefer_many_axes: bool = False
    ) -> None:
        self.unread_bytes = list(block)
        self.max_elements = max_elements
        self.rng = rng
        self.prefer_many_axes = prefer_many_axes
        self.axis_lengths: list[int] = []

    def of(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def integer(self, low: int, high: int) -> int:
        if low == high:
            return low
        byte = self.unread_bytes.pop(0) if self.unread_bytes else int(self.rng.integers(256))
        return low + byte % (high - low + 1)

    def rank(self, low: int, high: int) -> int:
        ranks = [*range(low, high + 1), *range(low + 1, high)]  # those between twice as likely
        if self.prefer_many_axes:
            ranks = [r for r in range(low, high + 1) for _ in range(low, r + 1)]
        rank: int = self.of(ranks)
        return rank

    def size(self, taken: int) -> int:
        again = [n for n in self.axis_lengths[-1:] if n] * REPEATED_LENGTH_WEIGHT
        self.axis_lengths.append(
            self.of([n for n in (*AXIS_LENGTHS, *again) if n * taken <= self.max_elements])
        )
        return self.axis_lengths[-1]


class LongAxisChoices(DrawnChoices):
    """Those of a call with one axis of this length: the first, second or third to be chosen. The others are short.

    A call with fewer axes may have no long one; `is_long` says so.
    """

    def __init__(self, rng: np.random.Generator, length: int) -> None:
        super().__init__(b"", 0, rng)
        self.axes_before_long, self.length = self.integer(0, 2), length

    @property
    def has_long_axis(self) -> bool:
        return self.length in self.axis_lengths

    def rank(self, low: int, high: int) -> int:
        return min(low + self.integer(0, 2), high)

    def size(self, taken: int) -> int:
        long = len(self.axis_lengths) >= self.axes_before_long and not self.has_long_axis and taken <= 4
        self.axis_lengths.append(self.length if long else self.of([1, 2]))
        return self.axis_lengths[-1]
