"""Domains: the type annotations of an op's arguments, which say which numbers are drawn for them.

    def log(x: Positive) -> VJP: ...

Properties and benchmarks draw values from the domain; the op itself may accept more.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from gradspec.reference.calls import IntegerArrayBelow
from gradspec.reference.rule import Array


@dataclass(frozen=True)
class Interval:
    """The floating-point numbers between `low` and `high`, both excluded, without the points of `hole`.

    Attributes:
        low: the lower end.
        high: the upper end.
        hole: the points that are left out.
        has_gradient: whether anybody asks for a gradient; not of tables, masks and weights that are given.
        at_least_float32: whether an argument is float32 where the others are 16-bit floats.
    """

    low: float = float("-inf")
    high: float = float("inf")
    hole: tuple[float, ...] = ()
    has_gradient: bool = True
    at_least_float32: bool = False

    def __contains__(self, x: Any) -> bool:
        return bool(self.low < x < self.high) and x not in self.hole


@dataclass(frozen=True)
class Integers:
    """Integers (int64) below a bound set by the call: indices, class labels. No gradient.

    Of an op with a signature the domain says what the call sets:

        "(v,d),(*b)->(*b,d)"    def embedding(weight: Real, index: below("v")) -> Array: ...

    Attributes:
        below: the dimension of the signature that they index.
        negative: whether they may count from its end.
        spare: a number outside the range that may occur, too: what is ignored, such as a target of -100.
        distinct_along: the axis along which no element recurs.
    """

    below: str = ""
    negative: bool = False
    spare: int | None = None
    distinct_along: int | None = None

    def describe(self, shape: tuple[int, ...], bound: int) -> IntegerArrayBelow:
        """Return the array of such integers that a call with this shape and bound has."""
        low = -bound if self.negative else 0
        return IntegerArrayBelow(shape, bound, low, self.spare, self.distinct_along)


@dataclass(frozen=True)
class Booleans:
    """True and False (bool). No gradient."""


Domain = Interval | Integers | Booleans

Real = Annotated[Array, Interval()]
NonZero = Annotated[Array, Interval(hole=(0.0,))]
Positive = Annotated[Array, Interval(low=0.0)]
AboveMinusOne = Annotated[Array, Interval(low=-1.0)]
Wide = Annotated[Array, Interval(at_least_float32=True)]
Fixed = Annotated[Array, Interval(has_gradient=False)]
FixedPositive = Annotated[Array, Interval(low=0.0, has_gradient=False)]
Index = Annotated[Array, Integers()]
Mask = Annotated[Array, Booleans()]


def below(
    dimension: str, *, negative: bool = False, spare: int | None = None, distinct_along: int | None = None
) -> Any:
    """Return the type of an argument of integers that index a dimension of the signature; see `Integers`."""
    return Annotated[Array, Integers(dimension, negative, spare, distinct_along)]
