"""gradspec verifies and benchmarks the gradients of array libraries.

Here is what verifies a function of your own, in your own tests: `verify`, or `parametrize` for one test per
law. And what declares an op of your own: `op`, the domains of its arguments, where it has kinks; and the
`ops` that there are.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gradspec.properties.verifying.each_law import parametrize
    from gradspec.properties.verifying.one_function import verify
    from gradspec.reference import VJP, Tensor, op, ops, vjp
    from gradspec.reference.domains import (
        AboveMinusOne,
        Fixed,
        FixedPositive,
        Index,
        Mask,
        NonZero,
        Positive,
        Real,
        Wide,
        below,
    )
    from gradspec.reference.kink_distances import extreme_ties, points, smooth, ties
    from gradspec.reference.rule import Array
else:
    from importlib import import_module

    _HOMES = {
        "gradspec.properties.verifying.each_law": ("parametrize",),
        "gradspec.properties.verifying.one_function": ("verify",),
        "gradspec.reference": ("VJP", "Tensor", "op", "ops", "vjp"),
        "gradspec.reference.domains": (
            *("AboveMinusOne", "Fixed", "FixedPositive", "Index", "Mask", "NonZero", "Positive", "Real"),
            *("Wide", "below"),
        ),
        "gradspec.reference.kink_distances": ("extreme_ties", "points", "smooth", "ties"),
        "gradspec.reference.rule": ("Array",),
    }

    def __getattr__(name: str) -> object:
        """Return what is offered here; all that it needs, NumPy too, is imported when it is asked for."""
        for home, names in _HOMES.items():
            if name in names:
                return getattr(import_module(home), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "VJP",
    "AboveMinusOne",
    "Array",
    "Fixed",
    "FixedPositive",
    "Index",
    "Mask",
    "NonZero",
    "Positive",
    "Real",
    "Tensor",
    "Wide",
    "below",
    "extreme_ties",
    "op",
    "ops",
    "parametrize",
    "points",
    "smooth",
    "ties",
    "verify",
    "vjp",
]
