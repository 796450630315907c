"""The types of rules: a rule is a function that returns its value and one pullback per array argument.

A rule of several values returns a tuple of them, and its pullbacks take one cotangent for each:

    @op("(m),(m)->(m),(m)")
    def product_and_sum(x: Real, y: Real) -> VJP:
        return (x * y, x + y), (lambda g, h: g * y + h, lambda g, h: g * x + h)

Where a value is unused, zeros stand for its cotangent, and so they do for every value of integers.
"""

from collections.abc import Callable
from typing import Any

Array = Any
"""An array of the library the rules are written for; a `Variable` while a pullback is itself recorded."""

Pullback = Callable[..., Array]
"""Maps the cotangent of a value to the cotangent of one argument, before the sum over broadcast axes.

It takes the cotangents of all values, in their order, if there are several.
"""

VJP = tuple[Array, tuple[Pullback | None, ...] | Callable[..., tuple[Array, ...]] | None]
"""What a rule returns: its value, or a tuple of its values, and its pullbacks.

The pullbacks are a tuple with one per argument (None for an argument without a gradient), or one function
that returns all gradients at once, or None if the op is not differentiable at all.
"""

Rule = Callable[..., VJP]
