"""Signatures: the core dimensions of an op's arguments, from which its calls are drawn.

"(m?,n),(n,p?)->(m?,p?)"    a gufunc's: m and p may be absent, and whatever comes before them is broadcast
"(*b,n),(n)->(*b,n)"        b is any number of axes; where there is a star, nothing broadcasts,
                                and names without one have at least length 1
"(*b,2*n),(n)->(*b,2*n)"    an axis as long as the product of others, or numbers, here twice as long as n
"(3),(3)->(3)"              axes of a fixed length
"(m),(m)->(m),(m)"          two values
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

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
_NAME_PATTERN = r"[^\W\d]\w*"
_FACTOR_PATTERN = rf"({_NAME_PATTERN}|[1-9]\d*)"
_DIMENSION_PATTERN = rf"(\*?{_NAME_PATTERN}\??|{_FACTOR_PATTERN}(\*{_FACTOR_PATTERN})*)"
_ARGUMENT_PATTERN = rf"\(({_DIMENSION_PATTERN}(,{_DIMENSION_PATTERN})*)?\)"


def parse_dimensions(signature: str) -> list[list[str]]:
    """Return each argument's dimensions: "m?" may be absent, "*b" is any number of axes, "2*n" a product."""
    arguments = signature.replace(" ", "").split("->")[0]
    return [dims.split(",") if dims else [] for dims in re.findall(r"\((.*?)\)", arguments)]


def parse_core_dimensions(signature: str) -> list[list[str]]:
    """Return each argument's core dimensions, those that do not begin with a star."""
    return [[name for name in dims if name[0] != "*"] for dims in parse_dimensions(signature)]


def broadcasts(signature: str) -> bool:
    """Return whether what comes before the core dimensions is broadcast: unless there is a star."""
    return "*" not in signature


def count_values(signature: str) -> int:
    """Return how many values an op with this signature has."""
    return signature.split("->")[1].count("(")


def check_signature(signature: str, arguments: Sequence[str] | None, *, literal: bool = False) -> None:
    """Raise ValueError unless it is a signature, and one of these arguments; None for any number of them.

    Args:
        signature: what is checked.
        arguments: the names of the op's arguments.
        literal: whether nothing broadcasts without a star, either.
    """
    several = rf"{_ARGUMENT_PATTERN}(,{_ARGUMENT_PATTERN})*"
    if not re.fullmatch(f"{several}->{several}", signature.replace(" ", "")):
        raise ValueError(
            f"{signature!r} is not a gufunc signature, such as '(m?,n),(n,p?)->(m?,p?)', nor one in which "
            "nothing broadcasts, such as '(*b,n),(n)->(*b,n)'; several values are written "
            "'(m),(m)->(m),(m)', lengths '(3)', products of lengths '(2*n)'"
        )
    dimensions = parse_dimensions(signature)
    _check_stars(signature, dimensions, literal or not broadcasts(signature))
    count = len(dimensions)
    if arguments is not None and count != len(arguments):
        raise ValueError(
            f"it has the arguments {', '.join(arguments)}, but signature {signature!r} is of {count} "
            f"array{'s' * (count != 1)}; they must be as many (keywords come after a star)"
        )


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
    check_signature(signature, None, literal=literal)
    is_literal = literal or not broadcasts(signature)
    draw_shapes = _draw_literally if is_literal else _draw_broadcasting
    arguments = parse_dimensions(signature)
    bounds = [d.below if isinstance(d, Integers) else "" for d in domains] or [""] * len(arguments)
    if unknown := {b for b in bounds if b} - {*list_factors(arguments)}:
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


def list_factors(arguments: list[list[str]]) -> list[str]:
    """Return all names and numbers that the dimensions are made of, each once."""
    return [*dict.fromkeys(itertools.chain(*map(split_product, itertools.chain(*arguments))))]


def split_product(dimension: str) -> list[str]:
    """Return the names and numbers whose product is the length of a dimension: mostly the one."""
    return [dimension] if dimension[0] == "*" else dimension.split("*")


def _measure(dimension: str, lengths: Lengths) -> Shape:
    """Return the lengths of the axes that a dimension stands for."""
    if dimension in lengths:
        return lengths[dimension]
    return (math.prod(lengths[factor][0] for factor in split_product(dimension)),)


def _draw_broadcasting(
    choose: Choices, arguments: list[list[str]], nonempty: set[str]
) -> tuple[list[Shape], Lengths]:
    """Draw the shapes of the arguments: core dimensions, and before them loop dimensions that broadcast."""
    loop = draw_shape(choose, high=max(MAX_RANK - max(map(len, arguments)), 0))
    core: Lengths = {}
    for name in list_factors(arguments):
        if name.isdecimal():
            core[name] = (int(name),)
            continue
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
    factors = list_factors(arguments)
    lengths.update((factor, (int(factor),)) for factor in factors if factor.isdecimal())
    stars = [name for name in factors if name[0] == "*"]
    rank = MAX_RANK - plain
    for name in stars:
        so_far = sum(lengths.values(), ())
        lengths[name] = draw_shape(choose, high=max(rank, 0), other_lengths=so_far)
        rank -= len(lengths[name])
    for name in factors:
        if name not in lengths:
            # Not empty, as a row may be averaged; what is empty has a star.
            lengths[name] = (choose.size(count_max_elements(*sum(lengths.values(), ()))) or 1,)
    return [sum((_measure(name, lengths) for name in dims), ()) for dims in arguments], lengths
