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

from gradspec.properties.case import DISTANCE, Case, dtype_of
from gradspec.properties.generating import values
from gradspec.reference.cases import Below, Call
from gradspec.reference.op import Op
from gradspec.reference.tape import Array

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]

SIZES = (1, 2, 3, 0, 4, 5, 7, 8, 17, 33)
"""Lengths of axes. 1 first, so that a shrunk shape has elements; past 8 for blocks and unrolled loops."""

AGAIN = 3  # times as likely as any other is the length of the axis before: squares hide transposes

LONG = 4096  # of ones bfloat16 adds up 256, float16 2,048
WIDE = (70, 262, 1030)  # in the other dtypes: past the blocks of 64, 256 and 1,024 that kernels work in
RARELY = 8, 10  # of so many cases that may be long one is, in 16 bits and in others
SIXTEEN = ("float16", "bfloat16")
POSITIVE = (1.0, 0.9, 0.7, 0.3)
ROUND = (1.0, 0.75, 0.5, 0.25)  # whose products add up exactly, in any order
APART = 1 / 16  # how far all numbers lie from each other where it matters which is the largest
SUMS = {
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

ROOM = 300  # elements of the largest array; a longdouble run of most ops still takes well under a millisecond
CHOICES = 10  # bytes that the first choices of a call are read off, and most calls have no more
BLOCK = 32  # bytes that the values of the first case are picked by: each is one more to shrink


class DrawnChoices:
    """The `Choices` of Hypothesis: read off a block of bytes, zeros being the simplest; when it ends, at random.

    Choices drawn one by one cost more, and few of the calls would be new: Hypothesis likes to copy one choice to the place
    of another of its kind, in five of six examples.
    """

    def __init__(self, block: bytes, room: int, rng: np.random.Generator, many_axes: bool = False) -> None:
        self.left = list(block)
        self.room = room
        self.rng = rng
        self.many_axes = many_axes
        self.sizes: list[int] = []

    def of(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def integer(self, low: int, high: int) -> int:
        if low == high:
            return low
        byte = self.left.pop(0) if self.left else int(self.rng.integers(256))
        return low + byte % (high - low + 1)

    def rank(self, low: int, high: int) -> int:
        ranks = [*range(low, high + 1), *range(low + 1, high)]  # those between twice as likely
        if self.many_axes:
            ranks = [r for r in range(low, high + 1) for _ in range(low, r + 1)]
        rank: int = self.of(ranks)
        return rank

    def size(self, taken: int) -> int:
        again = [n for n in self.sizes[-1:] if n] * AGAIN
        self.sizes.append(self.of([n for n in (*SIZES, *again) if n * taken <= self.room]))
        return self.sizes[-1]


class LongChoices(DrawnChoices):
    """Those of a call with one axis of this length: the first, second or third to be chosen. The others are short.

    A call with fewer axes may have no long one; `is_long` says so.
    """

    def __init__(self, rng: np.random.Generator, length: int) -> None:
        super().__init__(b"", 0, rng)
        self.before, self.length = self.integer(0, 2), length

    @property
    def is_long(self) -> bool:
        return self.length in self.sizes

    def rank(self, low: int, high: int) -> int:
        return min(low + self.integer(0, 2), high)

    def size(self, taken: int) -> int:
        long = len(self.sizes) >= self.before and not self.is_long and taken <= 4
        self.sizes.append(self.length if long else self.of([1, 2]))
        return self.sizes[-1]


@st.composite
def cases(
    draw: Draw,
    op: Op,
    dtypes: Sequence[str],
    fills: int,
    smooth: bool,
    room: int = ROOM,
    long: bool = False,
    many_axes: bool = False,
) -> list[Case]:
    """Several cases, each of a call of its own.

    smooth: all inputs keep their distance from kinks. room: how many elements an array may have. long: whether ops that
    combine elements may meet one long axis now and then; in 16-bit floats those that add up, where it tells in what they add.
    many_axes: the higher a rank, the likelier.
    """
    length = fills * CHOICES + BLOCK
    block = draw(st.binary(min_size=length, max_size=length))
    rng = np.random.default_rng(draw(st.integers(0, 2**16 - 1)))
    found = []
    if not any(block):
        fills = 1  # the simplest example, which Hypothesis tries first, is the same in every run
    for i in range(fills):
        choose = DrawnChoices(block[i * CHOICES : (i + 1) * CHOICES], room, rng, many_axes)
        dtype = choose.of(dtypes)
        suited = adds_up(op) if dtype in SIXTEEN else not op.elementwise
        if long and suited and rng.integers(RARELY[dtype not in SIXTEEN]) == 0:
            case = _long_case(op, dtype, rng)
            found.append(away_from_kinks(case, rng) if smooth and op.kinks else case)
            continue
        call = op.cases(choose)
        if op.arguments[-1] in op.defaults and choose.of([False, False, False, True]):
            call = replace(call, shapes=call.shapes[:-1])
        picks = np.frombuffer(block[-BLOCK:], np.uint8) if i == 0 else _bytes_for(call, rng)
        case = filled_case(op, call, dtype, picks)
        found.append(away_from_kinks(case, rng) if smooth and op.kinks else case)
    return found


def adds_up(op: Op) -> bool:
    """Whether the op adds up elements, forwards or, where it broadcasts, backwards, and has no kinks in the way."""
    return not op.kinks and (op.name in SUMS or (op.signature is not None and len(op.arguments) > 1))


def _long_case(op: Op, dtype: str, rng: np.random.Generator) -> Case:
    """A case of a call with a long axis. Its numbers have one sign, so that the sums outgrow what 16 bits add to them.

    In other dtypes it is for what goes wrong far along an axis, and each library adds in an order of its own: they are round,
    or, where the largest is sought, all different.
    """
    length = LONG if dtype in SIXTEEN else int(rng.choice(WIDE))
    call = op.cases(choose := LongChoices(rng, length))
    for _ in range(3):
        if not choose.is_long:
            call = op.cases(choose := LongChoices(rng, length))
    case = filled_case(op, call, dtype, _bytes_for(call, rng))
    if op.kinks or not op.differentiable:
        return case.with_arrays(lambda x: (APART * rng.permutation(x.size)).reshape(x.shape).astype(x.dtype))
    letters = np.array(POSITIVE if dtype in SIXTEEN else ROUND).astype(dtype_of(dtype))
    return case.with_arrays(lambda x: letters[rng.integers(len(letters), size=x.shape)])


def _bytes_for(call: Call, rng: np.random.Generator) -> Array:
    """As many bytes at random as an array of the call has elements, and some more."""
    sizes = [math.prod(s.shape if isinstance(s, Below) else s) for s in call.shapes]
    return rng.integers(0, 256, sum(sizes) + len(sizes) + 64, np.uint8)


def filled_case(op: Op, call: Call, dtype: str, block: Array) -> Case:
    """The case of a call that a block of bytes picks the values of."""
    inputs = []
    for i, described in enumerate(call.shapes):
        shape, bound = (described.shape, described.bound) if isinstance(described, Below) else (described, 1)
        picks = np.roll(block[len(call.shapes) :], -17 * i)  # so that equal shapes get different values
        far = i == 0 and not op.elementwise
        inputs.append(values.fill(op.domain(i), dtype, shape, int(block[i]), picks, bound, far))
    with np.errstate(all="ignore"):
        shape = np.shape(op.rule(*(_cheap(x) for x in inputs), **call.keywords)[0])
    return Case(op, dtype, tuple(inputs), call.keywords, values.cotangent(dtype, shape, block[::-1]))


def _cheap(x: Array) -> Array:
    """X in a dtype that NumPy itself computes in."""
    return x.astype(np.float32) if x.dtype.kind not in "biu" else x


def away_from_kinks(case: Case, rng: np.random.Generator) -> Case:
    """The case with every element that is nearer to a kink than `DISTANCE` moved, until none is."""
    for attempt in range(50):
        near = [d < DISTANCE for d in case.kink_distances()]
        if not any(map(np.any, near)):
            return case
        step = 0.1 * (1 + attempt)
        moved = [
            x.astype(np.float64) + np.where(n, rng.uniform(-step, step, x.shape), 0)
            for x, n in zip(case.inputs, near, strict=True)
        ]
        case = replace(case, inputs=tuple(np.asarray(m, dtype_of(case.dtype)) for m in moved))
    raise ValueError(f"no place away from the kinks of {case.op.name} was found for {case}")
