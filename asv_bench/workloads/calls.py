"""The call of an op that stands for it at a size, and arrays for it. Shapes come from what the op says of itself.

An op declares the calls that it can be tried with as a function of a source of choices; here the source is `Typical`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, TypeVar

import numpy as np

from asv_bench.measuring.any_commit import IntegersBelow
from gradspec.reference import Op
from gradspec.reference.cases import Call
from gradspec.reference.domains import Booleans, Domain, Integers, Interval

Array = np.ndarray[Any, Any]
T = TypeVar("T")

ELEMENTS_BY_SIZE = {"overhead": 8, "cache": 2**14, "memory": 2**22}  # of float32: 32 bytes, 64 KiB, 16 MiB
MATRIX_SIDE_BY_SIZE = {
    "overhead": 3,
    "cache": 64,
    "memory": 512,
}  # of the matrices of a product, whose work is their cube
PREFERRED_OPTIONS = (-1, "one")  # the last axis, and one of them, as most programs have it
PRIME_LENGTHS = (2, 3, 5, 7, 11, 13)  # lengths that can be told apart
MAX_DISTINCT_NUMBERS = (
    65_537  # numbers drawn before they recur: prime, so that no two rows of a matrix are alike
)
LOG_STANDARD_DEVIATION = (
    0.5  # of the logarithms: the product of 2,048 elements stays within 1e+-30, which float32 can hold
)


class TypicalChoices:
    """The source of choices that takes what programs do most often.

    axes: how many a shape has, where the op lets it choose. lengths: of one axis after the other; or, if there are no
    more of them, such that the array has so many `elements`.
    """

    def __init__(self, axes: int, elements: int = 0, lengths: Iterable[int] = ()) -> None:
        self.axes, self.elements, self.lengths = axes, elements, iter(lengths)

    def of(self, options: Sequence[T]) -> T:
        return next((x for x in options if x in PREFERRED_OPTIONS), options[0])

    def integer(self, low: int, high: int) -> int:
        return min(max(low, self.axes), high)

    def rank(self, low: int, high: int) -> int:
        return self.integer(low, high)

    def size(self, taken: int) -> int:
        side = 2 ** math.ceil(math.log2(self.elements or 1) / 2)
        return next(self.lengths, self.elements // taken if 1 < taken < self.elements else side)


def make_typical_call(op: Op, size: str) -> Call:
    """The op's call at a size of `SIZES`: of matrices, or of vectors and scalars where it cannot have any."""
    if op.name in HAND_WRITTEN_CALLS:
        return HAND_WRITTEN_CALLS[op.name](size)
    if is_contraction(op):
        return _make_call_up_to_matrices(op, lengths=repeat(MATRIX_SIDE_BY_SIZE[size]))
    return _make_call_up_to_matrices(op, elements=ELEMENTS_BY_SIZE[size])


def _make_getitem_call(size: str) -> Call:
    """As many rows of a matrix as it has, some of them more than once: a look-up of embeddings."""
    side = 2 ** math.ceil(math.log2(ELEMENTS_BY_SIZE[size]) / 2)
    shape = (side, ELEMENTS_BY_SIZE[size] // side)
    return Call((shape,), {"key": (np.random.default_rng(0).integers(0, side, side),)})


def _make_broadcast_to_call(size: str) -> Call:
    """A row made a matrix."""
    side = 2 ** math.ceil(math.log2(ELEMENTS_BY_SIZE[size]) / 2)
    return Call(((1, ELEMENTS_BY_SIZE[size] // side),), {"shape": (side, ELEMENTS_BY_SIZE[size] // side)})


HAND_WRITTEN_CALLS: Mapping[str, Callable[[str], Call]] = {
    "getitem": _make_getitem_call,
    "broadcast_to": _make_broadcast_to_call,
}
"""Ops whose simplest call does nothing worth timing: x[:, :], or an array made what it is."""


def is_contraction(op: Op) -> bool:
    """Whether the op sums over an axis that two of its arrays share, so that its work is more than their elements."""
    call = _make_call_up_to_matrices(op, elements=1, lengths=chain(PRIME_LENGTHS, repeat(1)))
    floats = [s for s in call.shapes if not isinstance(s, IntegersBelow)]
    value = op.rule(*make_arrays(op, call, "float64", seed=0), **call.keywords)[0]
    return any(
        n != 1 and n not in np.shape(value) for s in floats for t in floats if s is not t for n in {*s} & {*t}
    )


def _make_call_up_to_matrices(op: Op, *, elements: int = 0, lengths: Iterable[int] = ()) -> Call:
    """The op's call with as many axes as it can have, up to two in the array that has the most."""
    lengths = list(_limit_lengths(lengths))
    calls = (op.cases(TypicalChoices(rank, elements, lengths)) for rank in (2, 1, 0))
    found = [call for call in calls if max(map(len, map(_shape_of_argument, call.shapes))) <= 2]
    return found[0]


def _limit_lengths(lengths: Iterable[int]) -> Iterator[int]:
    """More lengths than any op has axes; of an endless supply, not all."""
    yield from (n for n, _ in zip(lengths, range(20), strict=False))


def _shape_of_argument(shape: Any) -> tuple[int, ...]:
    return shape.shape if isinstance(shape, IntegersBelow) else shape


def make_arrays(op: Op, call: Call, dtype: Any, seed: int) -> list[Array]:
    """Arrays for a call, always the same ones: floats of the dtype in the domain of each argument, int64, bool."""
    rng = np.random.default_rng(seed)
    return [make_random_array(rng, op.domain(i), s, dtype) for i, s in enumerate(call.shapes)]


def make_random_array(rng: np.random.Generator, domain: Domain, shape: Any, dtype: Any) -> Array:
    """Numbers of all sizes around 1, of both signs or on their side of where the domain ends; integers below a bound; bools."""
    if isinstance(domain, Integers):
        return np.asarray(rng.integers(0, shape.bound, shape.shape))
    if isinstance(domain, Booleans):
        return np.asarray(rng.random(shape) < 0.5)
    n = min(math.prod(shape), MAX_DISTINCT_NUMBERS)
    x = np.exp(LOG_STANDARD_DEVIATION * rng.standard_normal(n))
    placed = np.asarray(_map_into_interval(x, np.where(rng.random(n) < 0.5, -1, 1), domain)).astype(dtype)
    return np.resize(placed, shape)


def _map_into_interval(x: Array, signs: Array, domain: Interval) -> Any:
    if math.isfinite(domain.low) and math.isfinite(domain.high):
        return domain.low + (domain.high - domain.low) * x / (1 + x)
    if math.isfinite(domain.low):
        return domain.low + x
    return domain.high - x if math.isfinite(domain.high) else signs * x


def make_cotangent(value: Array) -> Array:
    """A cotangent for a value: of its shape and dtype, and never uniform."""
    value = np.asarray(value)
    return make_random_array(np.random.default_rng(1), Interval(), value.shape, value.dtype)
