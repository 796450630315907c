"""Hypothesis strategies: calls of an op, and cases filled with values.

Shapes, axes and keywords are read off a block of bytes, which shrinks. So are the values of the first case of an example;
those of the others come from a seed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

from gradspec.properties.cases.case import MIN_KINK_DISTANCE, Case, dtype_of
from gradspec.properties.drawing import values
from gradspec.reference.cases import Call, IntegersBelow
from gradspec.reference.op import Op
from gradspec.reference.tape import Array

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]

AXIS_LENGTHS = (1, 2, 3, 0, 4, 5, 7, 8, 17, 33)
"""Lengths of axes. 1 first, so that a shrunk shape has elements; past 8 for blocks and unrolled loops."""

REPEATED_LENGTH_WEIGHT = (
    3  # times as likely as any other is the length of the axis before: squares hide transposes
)

LONG_AXIS_LENGTH_16_BIT = 4096  # of ones bfloat16 adds up 256, float16 2,048
LONG_AXIS_LENGTHS = (
    70,
    262,
    1030,
)  # in the other dtypes: past the blocks of 64, 256 and 1,024 that kernels work in
CASES_PER_LONG_CASE = 8, 10  # of so many cases that may be long one is, in 16 bits and in others
DTYPES_16_BIT = ("float16", "bfloat16")
LONG_AXIS_VALUES_16_BIT = (1.0, 0.9, 0.7, 0.3)
LONG_AXIS_VALUES = (1.0, 0.75, 0.5, 0.25)  # whose products add up exactly, in any order
MIN_VALUE_GAP = 1 / 16  # how far all numbers lie from each other where it matters which is the largest
SUMMING_OPS = {
    "sum",
    "mean",
    "var",
    "logsumexp",
    "softmax",
    "log_softmax",
    "layer_norm",
    "linear",
    "cross_entropy",
    "broadcast_to",
}

MAX_ELEMENTS = (
    300  # elements of the largest array; a longdouble run of most ops still takes well under a millisecond
)
BYTES_PER_CALL = 10  # bytes that the first choices of a call are read off, and most calls have no more
BYTES_OF_VALUES = 32  # bytes that the values of the first case are picked by: each is one more to shrink


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


@st.composite
def cases(
    draw: Draw,
    op: Op,
    dtypes: Sequence[str],
    cases_per_example: int,
    smooth: bool,
    max_elements: int = MAX_ELEMENTS,
    allow_long_axes: bool = False,
    prefer_many_axes: bool = False,
) -> list[Case]:
    """Several cases, each of a call of its own.

    smooth: all inputs keep their distance from kinks. room: how many elements an array may have. long: whether ops that
    combine elements may meet one long axis now and then; in 16-bit floats those that add up, where it tells in what they add.
    many_axes: the higher a rank, the likelier.
    """
    length = cases_per_example * BYTES_PER_CALL + BYTES_OF_VALUES
    block = draw(st.binary(min_size=length, max_size=length))
    rng = np.random.default_rng(draw(st.integers(0, 2**16 - 1)))
    found = []
    if not any(block):
        cases_per_example = 1  # the simplest example, which Hypothesis tries first, is the same in every run
    for i in range(cases_per_example):
        choose = DrawnChoices(
            block[i * BYTES_PER_CALL : (i + 1) * BYTES_PER_CALL], max_elements, rng, prefer_many_axes
        )
        dtype = choose.of(dtypes)
        suited = is_summing_op(op) if dtype in DTYPES_16_BIT else not op.elementwise
        if allow_long_axes and suited and rng.integers(CASES_PER_LONG_CASE[dtype not in DTYPES_16_BIT]) == 0:
            case = _draw_long_axis_case(op, dtype, rng)
            found.append(move_away_from_kinks(case, rng) if smooth and op.kinks else case)
            continue
        call = op.cases(choose)
        if op.arguments[-1] in op.defaults and choose.of([False, False, False, True]):
            call = replace(call, shapes=call.shapes[:-1])
        picks = np.frombuffer(block[-BYTES_OF_VALUES:], np.uint8) if i == 0 else _draw_bytes(call, rng)
        case = fill_case(op, call, dtype, picks)
        found.append(move_away_from_kinks(case, rng) if smooth and op.kinks else case)
    return found


def is_summing_op(op: Op) -> bool:
    """Whether the op adds up elements, forwards or, where it broadcasts, backwards, and has no kinks in the way."""
    return not op.kinks and (op.name in SUMMING_OPS or (op.signature is not None and len(op.arguments) > 1))


def _draw_long_axis_case(op: Op, dtype: str, rng: np.random.Generator) -> Case:
    """A case of a call with a long axis. Its numbers have one sign, so that the sums outgrow what 16 bits add to them.

    In other dtypes it is for what goes wrong far along an axis, and each library adds in an order of its own: they are round,
    or, where the largest is sought, all different.
    """
    length = LONG_AXIS_LENGTH_16_BIT if dtype in DTYPES_16_BIT else int(rng.choice(LONG_AXIS_LENGTHS))
    call = op.cases(choose := LongAxisChoices(rng, length))
    for _ in range(3):
        if not choose.has_long_axis:
            call = op.cases(choose := LongAxisChoices(rng, length))
    case = fill_case(op, call, dtype, _draw_bytes(call, rng))
    if op.kinks or not op.differentiable:
        return case.map_float_arrays(
            lambda x: (MIN_VALUE_GAP * rng.permutation(x.size)).reshape(x.shape).astype(x.dtype)
        )
    letters = np.array(LONG_AXIS_VALUES_16_BIT if dtype in DTYPES_16_BIT else LONG_AXIS_VALUES).astype(
        dtype_of(dtype)
    )
    return case.map_float_arrays(lambda x: letters[rng.integers(len(letters), size=x.shape)])


def _draw_bytes(call: Call, rng: np.random.Generator) -> Array:
    """As many bytes at random as an array of the call has elements, and some more."""
    sizes = [math.prod(s.shape if isinstance(s, IntegersBelow) else s) for s in call.shapes]
    return rng.integers(0, 256, sum(sizes) + len(sizes) + 64, np.uint8)


def fill_case(op: Op, call: Call, dtype: str, block: Array) -> Case:
    """The case of a call that a block of bytes picks the values of."""
    inputs = []
    for i, described in enumerate(call.shapes):
        shape, bound = (
            (described.shape, described.bound) if isinstance(described, IntegersBelow) else (described, 1)
        )
        picks = np.roll(block[len(call.shapes) :], -17 * i)  # so that equal shapes get different values
        far = i == 0 and not op.elementwise
        inputs.append(values.fill_array(op.domain(i), dtype, shape, int(block[i]), picks, bound, far))
    with np.errstate(all="ignore"):
        shape = np.shape(op.rule(*(_to_float32(x) for x in inputs), **call.keywords)[0])
    return Case(op, dtype, tuple(inputs), call.keywords, values.fill_cotangent(dtype, shape, block[::-1]))


def _to_float32(x: Array) -> Array:
    """X in a dtype that NumPy itself computes in."""
    return x.astype(np.float32) if x.dtype.kind not in "biu" else x


def move_away_from_kinks(case: Case, rng: np.random.Generator) -> Case:
    """The case with every element that is nearer to a kink than `DISTANCE` moved, until none is."""
    for attempt in range(50):
        near = [d < MIN_KINK_DISTANCE for d in case.compute_kink_distances()]
        if not any(map(np.any, near)):
            return case
        step = 0.1 * (1 + attempt)
        moved = [
            x.astype(np.float64) + np.where(n, rng.uniform(-step, step, x.shape), 0)
            for x, n in zip(case.inputs, near, strict=True)
        ]
        case = replace(case, inputs=tuple(np.asarray(m, dtype_of(case.dtype)) for m in moved))
    raise ValueError(f"no place away from the kinks of {case.op.name} was found for {case}")
