"""Transformations that are no fault of some ops, each with the reason."""

CONSTANT = "of a single element the value does not depend on it, so that its gradient is 0"

SIGNS = "only the signs matter to it, which rounding changes next to 0 alone, where rounding alone may change them"

RESHAPED = "its pullback gives the cotangent the shape of the array, wherever the new axis is"
FULL = "it is never tried without elements: the mean of no losses is not defined"

EQUIVALENT: dict[str, str] = {
    "softmax: the gradient is halved for a single element": CONSTANT,
    "log_softmax: the gradient is halved for a single element": CONSTANT,
    "var: the gradient is halved for a single element": CONSTANT,
    "var: the gradient is halved for no dimensions": CONSTANT,
    "relu: the gradient is doubled for negative numbers": "it is 0 there",
    "abs: the gradient is that of rounded arrays": SIGNS,
    "relu: the gradient is that of rounded arrays": SIGNS,
    "expand_dims: the gradient takes the axis beside": RESHAPED,
    "expand_dims: the gradient mishandles negative axes": RESHAPED,
    "cross_entropy: the gradient cannot be empty": FULL,
    "cross_entropy: the value cannot be of empty arrays": FULL,
    "cross_entropy: the gradient is halved for a single element": CONSTANT,
}
"""By what the fault would be called."""
