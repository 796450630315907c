"""The types of rules: a rule is a function that returns its value and one pullback per array argument."""

from collections.abc import Callable
from typing import Any

Array = Any
"""An array of the library the rules are written for; a `Variable` while a pullback is itself recorded."""

Pullback = Callable[[Array], Array]
"""Maps the cotangent of a value to the cotangent of one argument, before the sum over broadcast axes."""

VJP = tuple[Array, tuple[Pullback | None, ...] | Callable[[Array], tuple[Array, ...]] | None]
"""What a rule returns: its value, and its pullbacks.

The pullbacks are a tuple with one per argument (None for an argument without a gradient), or one function
that returns all gradients at once, or None if the op is not differentiable at all.
"""

Rule = Callable[..., VJP]
