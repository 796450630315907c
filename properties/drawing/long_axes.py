"""Calls with one long axis: sums that outgrow 16 bits, and what goes wrong far along an axis."""

import numpy as np

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.filling import draw_byte_block, fill_case
from gradspec.properties.cases.memory import fits_in_memory
from gradspec.properties.drawing.choices import DrawnChoices
from gradspec.properties.drawing.summing_ops import is_summing_op
from gradspec.reference.op import Op

DTYPES_16_BIT = ("float16", "bfloat16")

CASES_PER_LONG_CASE_16_BIT = 8  # of so many cases that may have a long axis, one has it
CASES_PER_LONG_CASE = 10  # likewise in the other dtypes

LONG_AXIS_LENGTH_16_BIT = 4096  # sums of ones stop growing at 256 in bfloat16, at 2,048 in float16
SHORT_LONG_AXIS_LENGTH = 300  # where a formula has products of it with itself
LONG_AXIS_LENGTHS = (70, 262, 1030)  # just past the blocks of 64, 256 and 1,024 that kernels work in

LONG_AXIS_VALUES_16_BIT = (1.0, 0.9, 0.7, 0.3)
LONG_AXIS_VALUES = (1.0, 0.75, 0.5, 0.25)  # whose products add up exactly, in any order
MIN_VALUE_GAP = 1 / 16  # between any two numbers where it matters which is the largest


class LongAxisChoices(DrawnChoices):
    """The `Choices` of a call with one long axis, the first, second or third; the others are short.

    A call with fewer axes may have no long one; `has_long_axis` says so.
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
        is_long = len(self.axis_lengths) >= self.axes_before_long and not self.has_long_axis and taken <= 4
        self.axis_lengths.append(self.length if is_long else self.of([1, 2]))
        return self.axis_lengths[-1]


def decide_on_long_axis(op: Op, dtype: str, rng: np.random.Generator) -> bool:
    """Choose whether a case of the op gets a long axis; never if one would tell nothing."""
    is_16_bit = dtype in DTYPES_16_BIT
    is_suited = is_summing_op(op) if is_16_bit else not op.elementwise
    return is_suited and rng.integers(CASES_PER_LONG_CASE_16_BIT if is_16_bit else CASES_PER_LONG_CASE) == 0


def draw_long_axis_case(op: Op, dtype: str, rng: np.random.Generator) -> Case:
    """Draw a case with a long axis, if the op can have one.

    In 16 bits its numbers have one sign, so that sums outgrow what the dtype can still add to them. In the
    other dtypes it is for what goes wrong far along an axis. As each library adds in an order of its own, the
    numbers are round there; where the largest one is sought, in any dtype, all are different.
    """
    length = LONG_AXIS_LENGTH_16_BIT if dtype in DTYPES_16_BIT else int(rng.choice(LONG_AXIS_LENGTHS))
    call = op.draw_call(choose := LongAxisChoices(rng, length))
    for _ in range(3):
        if not choose.has_long_axis:
            call = op.draw_call(choose := LongAxisChoices(rng, length))
    if not fits_in_memory(op, call, length):
        call = op.draw_call(LongAxisChoices(rng, SHORT_LONG_AXIS_LENGTH))
    case = fill_case(op, call, dtype, draw_byte_block(call, rng))
    if op.kinks or not op.differentiable:
        return case.map_float_arrays(
            lambda x: (MIN_VALUE_GAP * rng.permutation(x.size)).reshape(x.shape).astype(x.dtype)
        )
    values = LONG_AXIS_VALUES_16_BIT if dtype in DTYPES_16_BIT else LONG_AXIS_VALUES
    letters = np.array(values).astype(dtype_of(dtype))
    return case.map_float_arrays(lambda x: letters[rng.integers(len(letters), size=x.shape)])
