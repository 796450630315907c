"""Which ops add up elements."""

from gradspec.properties.cases.observed.sums import adds_up_backward, adds_up_forward
from gradspec.reference.op import Op


def is_summing_op(op: Op) -> bool:
    """Return whether an op without kinks adds up elements, forward or backward, as observed of the spec."""
    return not op.kinks and (adds_up_forward(op) or adds_up_backward(op))
