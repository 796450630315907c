"""Filling a call with values, which makes it a case."""

import numpy as np

from gradspec.properties.cases import values
from gradspec.properties.cases.case import Case
from gradspec.reference.cases import Call, IntegersBelow
from gradspec.reference.op import Op
from gradspec.reference.rule import Array


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
