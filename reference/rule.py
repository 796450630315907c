"""What a rule is: a function that returns its value and one pullback per array argument."""

from collections.abc import Callable
from typing import Any

Array = Any
"""An array of the library the rules are written for; a `Variable` where a pullback is itself recorded."""


Pullback = Callable[[Array], Array]
"""Maps the cotangent of a value to the cotangent of one argument, before the sum over broadcast axes."""


VJP = tuple[Array, tuple[Pullback | None, ...] | Callable[[Array], tuple[Array, ...]] | None]
"""What a rule returns: its value, and a pullback per argument (None for an argument without a gradient), or one function
that returns every gradient at once, or None where the op is not differentiable at all."""


Rule = Callable[..., VJP]
