"""Domains: the type annotations of an op's arguments, which say which numbers are drawn for them.

    def log(x: Positive) -> VJP: ...

Properties and benchmarks draw values from the domain; the op itself may accept more.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from gradspec.reference.rule import Array


@dataclass(frozen=True)
class Interval:
    """The floating-point numbers between `low` and `high`, both excluded, without the points of `hole`.

    Attributes:
        low: the lower end.
        high: the upper end.
        hole: the points that are left out.
        has_gradient: whether anybody asks for a gradient; not of tables, masks and weights that are given.
    """

    low: float = float("-inf")
    high: float = float("inf")
    hole: tuple[float, ...] = ()
    has_gradient: bool = True

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
Fixed = Annotated[Array, Interval(has_gradient=False)]
FixedPositive = Annotated[Array, Interval(low=0.0, has_gradient=False)]
Index = Annotated[Array, Integers()]
Mask = Annotated[Array, Booleans()]
