"""Transformations that are no fault of some ops, each with the reason."""

CONSTANT = "of a single element the value does not depend on it, so that its gradient is 0"

EQUIVALENT: dict[str, str] = {
    "softmax: the gradient is halved for a single element": CONSTANT,
    "log_softmax: the gradient is halved for a single element": CONSTANT,
    "var: the gradient is halved for a single element": CONSTANT,
    "var: the gradient is halved for no dimensions": CONSTANT,
    "cross_entropy: the gradient is halved for a single element": CONSTANT,
}
"""By what the fault would be called."""
