"""General faults that change nothing about some ops, each with the reason."""

REASON_ZERO_GRADIENT = "the value of a single element does not depend on it, so its gradient is 0"
REASON_ONLY_SIGNS_MATTER = (
    "its gradient depends only on signs, and rounding changes a sign only next to 0, where any rounding may"
)
REASON_RESHAPED_ANYWAY = "its pullback gives the cotangent the shape of the array, wherever the new axis is"
REASON_NEVER_EMPTY = "it is never tried without elements: the mean of no losses is not defined"

EQUIVALENT: dict[str, str] = {
    "softmax: the gradient is halved for a single element": REASON_ZERO_GRADIENT,
    "log_softmax: the gradient is halved for a single element": REASON_ZERO_GRADIENT,
    "var: the gradient is halved for a single element": REASON_ZERO_GRADIENT,
    "var: the gradient is halved for no dimensions": REASON_ZERO_GRADIENT,
    "relu: the gradient is doubled for negative numbers": "it is 0 there",
    "abs: the gradient is that of rounded arrays": REASON_ONLY_SIGNS_MATTER,
    "relu: the gradient is that of rounded arrays": REASON_ONLY_SIGNS_MATTER,
    "expand_dims: the gradient takes the axis beside": REASON_RESHAPED_ANYWAY,
    "expand_dims: the gradient mishandles negative axes": REASON_RESHAPED_ANYWAY,
    "cross_entropy: the gradient cannot be empty": REASON_NEVER_EMPTY,
    "cross_entropy: the value cannot be of empty arrays": REASON_NEVER_EMPTY,
    "cross_entropy: the gradient is halved for a single element": REASON_ZERO_GRADIENT,
}
"""By the name that the fault would have."""
