"""Shapes that do not fit a signature in which nothing broadcasts: an op refuses them."""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from gradspec.reference.calls import Shape
from gradspec.reference.signatures import Lengths, list_factors, parse_dimensions, split_product


def refuse_misfits(
    function: Callable[..., Any], signature: str, argument_names: Sequence[str]
) -> Callable[..., Any]:
    """Return the function of an op, made to raise ValueError for shapes that do not fit the signature.

    Args:
        function: the rule or formula.
        signature: one in which nothing broadcasts.
        argument_names: the names of its arguments.
    """
    arguments = parse_dimensions(signature)
    fixed = {f: (int(f),) for f in list_factors(arguments) if f.isdecimal()}

    @wraps(function)
    def strict_function(*args: Any, **keywords: Any) -> Any:
        lengths: Lengths = dict(fixed)
        given = [
            (name, dims, np.shape(x))
            for name, dims, x in zip(argument_names, arguments, args, strict=False)
            if x is not None
        ]
        # Products come last: what they are of is known then.
        for fits in (_match_names, _match_products):
            for name, dims, shape in given:
                if not fits(shape, dims, lengths):
                    known = {k: v for k, v in lengths.items() if k not in fixed}
                    told = ", ".join(f"{k} = {v if k[0] == '*' else v[0]}" for k, v in known.items())
                    raise ValueError(
                        f"{function.__name__}: {name} has shape {shape}; it must be ({','.join(dims)}) of "
                        f"{signature}, in which nothing broadcasts{told and ', with '}{told}"
                    )
        return function(*args, **keywords)

    return strict_function


def _split_shape(shape: Shape, dims: list[str]) -> list[tuple[str, Shape]] | None:
    """Return the part of a shape that each dimension stands for; None if it has other axes."""
    star = next((i for i, name in enumerate(dims) if name[0] == "*"), None)
    extra = len(shape) - len(dims) + (star is not None)
    if extra < 0 or (star is None and extra):
        return None
    starts = [i if star is None or i <= star else i + extra - 1 for i in range(len(dims))]
    return [
        (name, shape[start : start + (extra if i == star else 1)])
        for i, (name, start) in enumerate(zip(dims, starts, strict=True))
    ]


def _match_names(shape: Shape, dims: list[str], lengths: Lengths) -> bool:
    """Return whether a shape has these dimensions but for products; note the lengths that are new."""
    parts = _split_shape(shape, dims)
    return parts is not None and all(
        lengths.setdefault(name, part) == part for name, part in parts if len(split_product(name)) == 1
    )


def _match_products(shape: Shape, dims: list[str], lengths: Lengths) -> bool:
    """Return whether the axes of products are that long; note the one factor that is not known yet."""
    for name, part in _split_shape(shape, dims) or ():
        factors = split_product(name)
        if len(factors) == 1:
            continue
        unknown = [factor for factor in factors if factor not in lengths]
        known = math.prod(lengths[factor][0] for factor in factors if factor in lengths)
        if (part[0] % known if known else part[0]) or (not unknown and part[0] != known):
            return False
        if len(unknown) == 1 and known:
            lengths[unknown[0]] = (part[0] // known,)
        elif lengths.setdefault(name, part) != part:
            return False
    return True
