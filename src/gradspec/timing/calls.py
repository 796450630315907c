"""The typical call of any op at a given size, and arrays for it. Shapes come from the op's own declaration.

An op declares the calls it can be tried with as a function of a source of choices; here the source is
`TypicalChoices`. Nothing else is known of an op that is declared elsewhere, so how large its value becomes is
observed on tiny calls: no call is made that would not fit.
"""

import bisect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, TypeVar

import numpy as np

from gradspec.reference import Op
from gradspec.reference.calls import Call, IntegerArrayBelow
from gradspec.reference.domains import Booleans, Domain, Integers, Interval

Array = np.ndarray[Any, Any]
T = TypeVar("T")

ELEMENTS_BY_SIZE = {"overhead": 8, "cache": 2**14, "memory": 2**22}  # of float32: 32 bytes, 64 KiB, 16 MiB
# For products of matrices, whose work is the cube of the side.
MATRIX_SIDE_BY_SIZE = {"overhead": 3, "cache": 64, "memory": 512}

SIZES = tuple(ELEMENTS_BY_SIZE)
"""8 elements: the cost of a call; 64 KiB: arithmetic in the cache; 16 MiB: reading and writing memory."""

# By which a value may exceed a size, as where an op joins several arrays.
MAX_EXCESS = 8
# The last axis, and one axis rather than several, as in most programs.
PREFERRED_OPTIONS = (-1, "one")
# No two axes have the same length, so it is seen which axes are shared.
DISTINCT_AXIS_LENGTHS = (2, 3, 5, 7, 11, 13)
MAX_AXES = 20  # of one call; more than any op has
# So many numbers are drawn, then they repeat. It is a prime, so no two rows of a matrix are alike.
MAX_DISTINCT_NUMBERS = 65_537
# Of the logarithms: the product of 2,048 elements stays within 1e+-30, which float32 can hold.
LOG_STANDARD_DEVIATION = 0.5


class TypicalChoices:
    """A source of choices that takes what programs do most often.

    Args:
        axes: how many axes a shape has, where the op leaves it open.
        elements: how many elements an array has once `lengths` are used up.
        lengths: the lengths of axes, one after the other.

    Attributes:
        axes_drawn: how many axes have got a length.
    """

    def __init__(self, axes: int, elements: int = 0, lengths: Iterable[int] = ()) -> None:
        self.axes, self.elements, self.lengths, self.axes_drawn = axes, elements, iter(lengths), 0

    def of(self, options: Sequence[T]) -> T:
        return next((x for x in options if x in PREFERRED_OPTIONS), options[0])

    def integer(self, low: int, high: int) -> int:
        return min(max(low, self.axes), high)

    def rank(self, low: int, high: int) -> int:
        return self.integer(low, high)

    def size(self, taken: int) -> int:
        self.axes_drawn += 1
        side = 2 ** math.ceil(math.log2(self.elements or 1) / 2)
        return next(self.lengths, self.elements // taken if 1 < taken < self.elements else side)


def make_typical_call(op: Op, size: str) -> Call:
    """Return the op's call at a size of `SIZES`.

    It is of matrices, or of vectors or scalars if the op takes none. Where its arrays have more axes, or its
    value would have many more elements, all axes have the same length.
    """
    if op.address in HAND_WRITTEN_CALLS:
        return HAND_WRITTEN_CALLS[op.address](size)
    if is_contraction(op):
        side = MATRIX_SIDE_BY_SIZE[size]
        call = _make_call_up_to_matrices(op, side**2, lengths=repeat(side))
        return call or _make_call_of_equal_lengths(op, ELEMENTS_BY_SIZE[size], max_work=side**3)
    elements = ELEMENTS_BY_SIZE[size]
    call = _make_call_up_to_matrices(op, elements, elements=elements)
    return call or _make_call_of_equal_lengths(op, elements)


def _make_getitem_call(size: str) -> Call:
    """Return a look-up of embeddings: as many rows of a matrix as it has, some of them more than once."""
    side = 2 ** math.ceil(math.log2(ELEMENTS_BY_SIZE[size]) / 2)
    shape = (side, ELEMENTS_BY_SIZE[size] // side)
    return Call((shape,), {"key": (np.random.default_rng(0).integers(0, side, side),)})


def _make_broadcast_to_call(size: str) -> Call:
    """Return the broadcast of a row to a matrix."""
    side = 2 ** math.ceil(math.log2(ELEMENTS_BY_SIZE[size]) / 2)
    return Call(((1, ELEMENTS_BY_SIZE[size] // side),), {"shape": (side, ELEMENTS_BY_SIZE[size] // side)})


def _make_pad_call(size: str) -> Call:
    """Return a matrix with an edge of one element all around."""
    side = 2 ** math.ceil(math.log2(ELEMENTS_BY_SIZE[size]) / 2)
    return Call(((side, ELEMENTS_BY_SIZE[size] // side),), {"pad_width": ((1, 1), (1, 1))})


HAND_WRITTEN_CALLS: Mapping[str, Callable[[str], Call]] = {
    "getitem": _make_getitem_call,
    "broadcast_to": _make_broadcast_to_call,
    "pad": _make_pad_call,
}
"""Calls of ops of the spec whose simplest call does nothing worth timing.

Those are x[:, :], or a broadcast to the same shape.
"""


def is_contraction(op: Op) -> bool:
    """Return whether the op sums over an axis that two arrays share: its work is more than their elements."""
    lengths = [*DISTINCT_AXIS_LENGTHS, *repeat(1, MAX_AXES)]
    calls = [op.draw_call(TypicalChoices(rank, 1, lengths)) for rank in (2, 1, 0)]
    call = next(filter(_is_up_to_matrices, calls), calls[-1])
    floats = [s for s in call.shapes if not isinstance(s, IntegerArrayBelow)]
    value = _compute_value(op, call)
    return any(
        n != 1 and n not in np.shape(value) for s in floats for t in floats if s is not t for n in {*s} & {*t}
    )


def _make_call_up_to_matrices(
    op: Op, max_elements: int, *, elements: int = 0, lengths: Iterable[int] = ()
) -> Call | None:
    """Return the op's call with as many axes as it can have, up to two in the array that has the most.

    None if there is none, or if its value would have many more than `max_elements` elements.
    """
    lengths = list(_take_first_lengths(lengths))
    for rank in (2, 1, 0):
        call = op.draw_call(TypicalChoices(rank, elements, lengths))
        longest = max((n for s in call.shapes for n in get_plain_shape(s)), default=1)
        if _is_up_to_matrices(call) and _predict_value_size(op, rank, longest) <= MAX_EXCESS * max_elements:
            return call
    return None


def _make_call_of_equal_lengths(op: Op, max_elements: int, max_work: float = math.inf) -> Call:
    """Return the op's largest call whose axes all have the same length, where the op leaves that open.

    Args:
        op: the op.
        max_elements: how many elements an argument and the value may have.
        max_work: what the product of all lengths may be, of which a sum of products has at most as many.
    """

    def draw(length: int) -> tuple[Call, int]:
        choices = TypicalChoices(0, lengths=repeat(length))
        return op.draw_call(choices), choices.axes_drawn

    def is_too_large(length: int) -> bool:
        call, axes_drawn = draw(length)
        largest = max(
            _predict_value_size(op, 0, length), *(math.prod(get_plain_shape(s)) for s in call.shapes)
        )
        return largest > max_elements or length**axes_drawn > max_work

    # At least 2: what an axis of 1 costs says nothing.
    return draw(2 + bisect.bisect(range(3, max_elements + 1), False, key=is_too_large))[0]


def _predict_value_size(op: Op, rank: int, length: int) -> float:
    """Return about how many elements the value of a call has whose axes have this length.

    They are counted on axes of 2 and of 4, and grow by the power that this shows.
    """
    of_two, of_four = (
        _count_value_elements(op, op.draw_call(TypicalChoices(rank, lengths=repeat(n, MAX_AXES))))
        for n in (2, 4)
    )
    if length <= 4 or not (of_two and of_four):
        return of_four
    return float(of_four * (length / 4) ** math.log2(of_four / of_two))


def _count_value_elements(op: Op, call: Call) -> int:
    value = _compute_value(op, call)
    values = value if isinstance(value, tuple | list) else (value,)
    return max(map(np.size, values))


def _compute_value(op: Op, call: Call) -> Any:
    with np.errstate(all="ignore"):
        return op.rule(*make_arrays(op, call, "float64", seed=0), **call.keywords)[0]


def _is_up_to_matrices(call: Call) -> bool:
    return all(len(get_plain_shape(s)) <= 2 for s in call.shapes)


def _take_first_lengths(lengths: Iterable[int]) -> Iterator[int]:
    """Yield as many lengths as any op has axes: the supply may be endless."""
    yield from (n for n, _ in zip(lengths, range(MAX_AXES), strict=False))


def get_plain_shape(shape: Any) -> tuple[int, ...]:
    """Return a shape of a call as a tuple, also that of an array of integers."""
    return shape.shape if isinstance(shape, IntegerArrayBelow) else shape


def make_arrays(op: Op, call: Call, dtype: Any, seed: int) -> list[Array]:
    """Return arrays for a call, always the same: floats of `dtype` in each domain, integers or booleans."""
    rng = np.random.default_rng(seed)
    return [make_random_array(rng, op.domain(i), s, dtype) for i, s in enumerate(call.shapes)]


def make_random_array(rng: np.random.Generator, domain: Domain, shape: Any, dtype: Any) -> Array:
    """Return random numbers in a domain: bools, integers below the bound, or floats of all sizes around 1.

    The floats have both signs, or lie within the ends of the domain.
    """
    if isinstance(domain, Integers):
        picks = np.asarray(rng.integers(0, shape.bound, shape.shape))
        return shape.pick(picks) if hasattr(shape, "pick") else picks  # which older commits lack
    if isinstance(domain, Booleans):
        return np.asarray(rng.random(shape) < 0.5)
    n = min(math.prod(shape), MAX_DISTINCT_NUMBERS)
    x = np.exp(LOG_STANDARD_DEVIATION * rng.standard_normal(n))
    values = np.asarray(_map_into_interval(x, np.where(rng.random(n) < 0.5, -1, 1), domain)).astype(dtype)
    return np.resize(values, shape)


def _map_into_interval(x: Array, signs: Array, domain: Interval) -> Any:
    if math.isfinite(domain.low) and math.isfinite(domain.high):
        return domain.low + (domain.high - domain.low) * x / (1 + x)
    if math.isfinite(domain.low):
        return domain.low + x
    return domain.high - x if math.isfinite(domain.high) else signs * x


def make_cotangent(value: Array) -> Array:
    """Return a cotangent of the shape and dtype of `value`, never uniform."""
    value = np.asarray(value)
    return make_random_array(np.random.default_rng(1), Interval(), value.shape, value.dtype)
