"""Domains: the type annotations of an op's arguments, which say which numbers are drawn for them.

    def log(x: Positive) -> VJP: ...

Properties and benchmarks draw values from the domain; the op itself may accept more.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from gradspec.reference.rule import Array


@dataclass(frozen=True)
class Interval:
    """The floating-point numbers between `low` and `high`, both excluded, without the points of `hole`."""

    low: float = float("-inf")
    high: float = float("inf")
    hole: tuple[float, ...] = ()

    def __contains__(self, x: Any) -> bool:
        return bool(self.low < x < self.high) and x not in self.hole


@dataclass(frozen=True)
class Integers:
    """Non-negative integers (int64) below a bound set by the call: indices, class labels. No gradient."""


@dataclass(frozen=True)
class Booleans:
    """True and False (bool). No gradient."""


Domain = Interval | Integers | Booleans

Real = Annotated[Array, Interval()]
NonZero = Annotated[Array, Interval(hole=(0.0,))]
Positive = Annotated[Array, Interval(low=0.0)]
AboveMinusOne = Annotated[Array, Interval(low=-1.0)]
Index = Annotated[Array, Integers()]
Mask = Annotated[Array, Booleans()]
