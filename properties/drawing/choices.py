"""The `Choices` that Hypothesis makes: read off a block of bytes."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from gradspec.properties.cases.sizes import AXIS_LENGTHS, REPEATED_LENGTH_WEIGHT

T = TypeVar("T")


class DrawnChoices:
    """The `Choices` of Hypothesis: each is read off a byte, 0 being the simplest; after the last, random.

    Choices drawn one by one would cost more, and few of the calls would be new: in five of six examples
    Hypothesis copies one choice to the place of another of its kind.
    """

    def __init__(
        self, block: bytes, max_elements: int, rng: np.random.Generator, prefer_many_axes: bool = False
    ) -> None:
        """Make choices of which none is taken yet.

        Args:
            block: The bytes to read.
            max_elements: How many elements an array may have.
            rng: The source of choices once the block is read.
            prefer_many_axes: Whether a rank is the likelier the higher it is.
        """
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
        ranks = [*range(low, high + 1), *range(low + 1, high)]  # those in between are twice as likely
        if self.prefer_many_axes:
            ranks = [r for r in range(low, high + 1) for _ in range(low, r + 1)]
        rank: int = self.of(ranks)
        return rank

    def size(self, taken: int) -> int:
        repeated = [n for n in self.axis_lengths[-1:] if n] * REPEATED_LENGTH_WEIGHT
        lengths = [n for n in (*AXIS_LENGTHS, *repeated) if n * taken <= self.max_elements]
        self.axis_lengths.append(self.of(lengths))
        return self.axis_lengths[-1]
