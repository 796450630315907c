"""Signatures: the core dimensions of an op's arguments, from which its calls are drawn.

"(m?,n),(n,p?)->(m?,p?)"    a gufunc's: m and p may be absent, and whatever comes before them is broadcast
"(*b,n),(n)->(*b,n)"        b is any number of axes; where a name has a star, nothing broadcasts,
                                and names without one have at least length 1
"(m),(m)->(m),(m)"          two values
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np

from gradspec.reference.calls import (
    Call,
    Choices,
    DrawCall,
    Shape,
    count_max_elements,
    draw_mutually_broadcastable_shapes,
    draw_shape,
)
from gradspec.reference.domains import Domain, Integers

MAX_RANK = 4
_ARGUMENT_PATTERN = r"\((\*?\w+\??(,\*?\w+\??)*)?\)"


def parse_dimensions(signature: str) -> list[list[str]]:
    """Return the names of each argument's dimensions: "m?" may be absent, "*b" is any number of axes."""
    return [re.findall(r"\*?\w+\??", dims) for dims in re.findall(r"\((.*?)\)", signature.split("->")[0])]


def parse_core_dimensions(signature: str) -> list[list[str]]:
    """Return the names of each argument's core dimensions, those without a star."""
    return [[name for name in dims if name[0] != "*"] for dims in parse_dimensions(signature)]


def broadcasts(signature: str) -> bool:
    """Return whether what comes before the core dimensions is broadcast: unless a name has a star."""
    return "*" not in signature


def count_values(signature: str) -> int:
    """Return how many values an op with this signature has."""
    return signature.split("->")[1].count("(")


def is_elementwise(signature: str) -> bool:
    """Return whether each element of a value depends on one element of every argument, by broadcasting."""
    return broadcasts(signature) and not any(parse_core_dimensions(signature))


def from_signature(
    signature: str,
    keywords: Mapping[str, Sequence[Any]] = {},
    domains: Sequence[Domain] = (),
    literal: bool = False,
) -> DrawCall:
    """Return a function that draws the calls of an op with a signature.

    Args:
        signature: the dimensions of each argument.
        keywords: the values that each keyword may have.
        domains: the domains of the arguments; integers below the length of a dimension are drawn as such.
        literal: whether nothing broadcasts without a star, either.

    Raises:
        ValueError: if it is not a signature.
    """
    several = rf"{_ARGUMENT_PATTERN}(,{_ARGUMENT_PATTERN})*"
    if not re.fullmatch(f"{several}->{several}", signature):
        raise ValueError(
            f"{signature!r} is not a gufunc signature, such as '(m?,n),(n,p?)->(m?,p?)', nor one in which "
            "nothing broadcasts, such as '(*b,n),(n)->(*b,n)'; several values are written '(m),(m)->(m),(m)'"
        )
    is_literal = literal or not broadcasts(signature)
    draw_shapes = _draw_literally if is_literal else _draw_broadcasting
    arguments = parse_dimensions(signature)
    _check_stars(signature, arguments, is_literal)
    bounds = [d.below if isinstance(d, Integers) else "" for d in domains] or [""] * len(arguments)
    if unknown := {b for b in bounds if b} - {*itertools.chain(*arguments)}:
        raise ValueError(f"integers below {sorted(unknown)}, which {signature!r} does not name")

    def cases(choose: Choices) -> Call:
        shapes, lengths = draw_shapes(choose, arguments, {b for b in bounds if b})
        described = [
            d.describe(s, sum(lengths[d.below])) if isinstance(d, Integers) and d.below else s
            for s, d in itertools.zip_longest(shapes, domains)
        ]
        return Call(tuple(described), {name: choose.of(options) for name, options in keywords.items()})

    return cases


def _check_stars(signature: str, arguments: list[list[str]], is_literal: bool) -> None:
    """Raise ValueError for a signature whose shapes would not tell which axis is which."""
    names = [*itertools.chain(*arguments)]
    several = any(sum(name[0] == "*" for name in dims) > 1 for dims in arguments)
    optional = is_literal and any(name.endswith("?") for name in names)
    if several or optional:
        what = "two names with a star in one argument" if several else "both stars and question marks"
        what = "question marks where nothing broadcasts" if optional and broadcasts(signature) else what
        raise ValueError(f"signature {signature!r} has {what}; its shapes would not tell which axis is which")


Lengths = dict[str, Shape]
"""The lengths of the axes that a name stands for: one, several with a star, none if absent."""


def _draw_broadcasting(
    choose: Choices, arguments: list[list[str]], nonempty: set[str]
) -> tuple[list[Shape], Lengths]:
    """Draw the shapes of the arguments: core dimensions, and before them loop dimensions that broadcast."""
    loop = draw_shape(choose, high=MAX_RANK - max(map(len, arguments)))
    core: Lengths = {}
    for name in dict.fromkeys(itertools.chain(*arguments)):
        is_absent = name.endswith("?") and choose.of([False, False, True])
        n = 0 if is_absent else choose.size(count_max_elements(*loop, *sum(core.values(), ())))
        core[name] = () if is_absent else (n or int(name in nonempty),)
    cores = [[core[name] for name in dims] for dims in arguments]
    # An argument with an absent core dimension gets no loop dimensions: one could be taken for the other.
    is_complete = [all(dims) for dims in cores]
    loops = iter(draw_mutually_broadcastable_shapes(choose, loop, sum(is_complete)))
    shapes = [(next(loops) if c else ()) + sum(dims, ()) for c, dims in zip(is_complete, cores, strict=True)]
    return shapes, core


def _draw_literally(choose: Choices, arguments: list[list[str]], _: set[str]) -> tuple[list[Shape], Lengths]:
    """Draw the shapes of the arguments of a signature in which nothing broadcasts."""
    plain = max(sum(name[0] != "*" for name in dims) for dims in arguments)
    lengths: Lengths = {}
    names = dict.fromkeys(itertools.chain(*arguments))
    for name in sorted(names, key=lambda name: name[0] != "*"):  # those with a star first
        so_far = sum(lengths.values(), ())
        if name[0] == "*":
            rank = MAX_RANK - plain - len(so_far)
            lengths[name] = draw_shape(choose, high=max(rank, 0), other_lengths=so_far)
        else:
            # Not empty, as a row may be averaged; what is empty has a star.
            lengths[name] = (choose.size(count_max_elements(*so_far)) or 1,)
    return [sum((lengths[name] for name in dims), ()) for dims in arguments], lengths


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

    @wraps(function)
    def strict_function(*args: Any, **keywords: Any) -> Any:
        lengths: Lengths = {}
        for name, dims, x in zip(argument_names, arguments, args, strict=False):
            if x is not None and not _match(np.shape(x), dims, lengths):
                known = ", ".join(f"{k} = {v if k[0] == '*' else v[0]}" for k, v in lengths.items())
                raise ValueError(
                    f"{function.__name__}: {name} has shape {np.shape(x)}; it must be ({','.join(dims)}) of "
                    f"{signature}, in which nothing broadcasts{known and ', with '}{known}"
                )
        return function(*args, **keywords)

    return strict_function


def _match(shape: Shape, dims: list[str], lengths: Lengths) -> bool:
    """Return whether a shape has these dimensions, and note the lengths of those that are new."""
    star = next((i for i, name in enumerate(dims) if name[0] == "*"), None)
    extra = len(shape) - len(dims) + (star is not None)
    if extra < 0 or (star is None and extra):
        return False
    start = 0
    for i, name in enumerate(dims):
        count = extra if i == star else 1
        if lengths.setdefault(name, shape[start : start + count]) != shape[start : start + count]:
            return False
        start += count
    return True
