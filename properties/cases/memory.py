"""How much memory a call with long axes would take, told by two short ones like it.

The shapes of a call tell how large its arrays are, not what a formula makes of them on the way: attention
over n rows has a matrix of n times n.
"""

import math
import tracemalloc
from functools import lru_cache

import numpy as np

from gradspec.properties.cases.literals import literal
from gradspec.reference.calls import Call, IntegerArrayBelow, Shape
from gradspec.reference.op import Op, fill_from_domain

MAX_BYTES = 2**26
"""Of all arrays in float64 that the spec may hold at once; it runs a case some twenty times."""

SHORT_LENGTHS = (96, 192)


def fits_in_memory(op: Op, call: Call, length: int) -> bool:
    """Return whether the value of a call takes no more memory than a case should.

    Args:
        op: The op.
        call: The call.
        length: The length of its long axes.
    """
    if length <= SHORT_LENGTHS[-1]:
        return True
    few, many = (_measure_peak(_HashableCall(op, shorten(call, length, n))) for n in SHORT_LENGTHS)
    if not few or not many:
        return True
    exponent = math.log(many / few) / math.log(SHORT_LENGTHS[1] / SHORT_LENGTHS[0])
    return bool(many * (length / SHORT_LENGTHS[1]) ** max(exponent, 1.0) <= MAX_BYTES)


def shorten(call: Call, length: int, to: int) -> Call:
    """Return a call like another, whose axes of one length, or a multiple, and bounds have another length."""

    def change(n: int) -> int:
        return n // length * to if n % length == 0 else n

    def change_shape(shape: Shape) -> Shape:
        return tuple(map(change, shape))

    shapes = [
        IntegerArrayBelow(change_shape(s.shape), change(s.bound), -change(-s.low), s.spare, s.distinct_along)
        if isinstance(s, IntegerArrayBelow)
        else change_shape(s)
        for s in call.shapes
    ]
    return Call(tuple(shapes), call.keywords)


class _HashableCall:
    """A call of an op, equal to any other that is written alike."""

    def __init__(self, op: Op, call: Call) -> None:
        self.op, self.call = op, call
        self.key = op, op.rule, call.shapes, literal(call.keywords)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _HashableCall) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=256)
def _measure_peak(of: _HashableCall) -> int:
    """Return how many bytes are taken at once while the spec computes a value; 0 if it refuses the call."""
    inputs = [fill_from_domain(of.op.domain(i), s) for i, s in enumerate(of.call.shapes)]
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        with np.errstate(all="ignore"):
            of.op.compute_value(*inputs, **of.call.keywords)
        return tracemalloc.get_traced_memory()[1] - before
    except Exception:
        return 0
    finally:
        if not was_tracing:
            tracemalloc.stop()
