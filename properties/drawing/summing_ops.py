"""Which ops add up elements."""

from gradspec.reference.op import Op

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


def is_summing_op(op: Op) -> bool:
    """Return whether an op without kinks adds up elements, forwards or (where it broadcasts) backwards."""
    return not op.kinks and (op.name in SUMMING_OPS or (op.signature is not None and len(op.arguments) > 1))
