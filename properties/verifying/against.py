"""What a function is judged by: an op, the name of one, or a NumPy formula, an op as long as needed."""

import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from gradspec.backends.addresses import find_op
from gradspec.reference import OPS, Op, op
from gradspec.reference.domains import Booleans, Integers, Interval
from gradspec.reference.kink_distances import KinkDistanceFunction

WHAT_IS_ALLOWED = (
    'the name of an op ("layer_norm"), an op (`@gradspec.op`), or a formula in NumPy, each of whose arrays '
    "is annotated with its domain (x: gradspec.Real)"
)


@contextmanager
def declare(
    against: Any,
    shapes: str | None,
    keywords: Mapping[str, Sequence[Any]] | None,
    kinks: KinkDistanceFunction | None,
) -> Iterator[Op]:
    """Give the op that `against` stands for; of a formula it is declared within the block alone.

    Args:
        against: The name of an op, an op, or a formula.
        shapes: The signature of the formula.
        keywords: The values to try of the formula's keywords, where its parameters do not tell.
        kinks: Where the formula has kinks.

    Raises:
        TypeError: `against` is none of these, or what else is given does not go with it.
        ValueError: There is no such op, or the formula contradicts its declaration.
    """
    if isinstance(against, str | Op):
        for name, value in {"shapes": shapes, "keywords": keywords, "kinks": kinks}.items():
            if value is not None:
                raise TypeError(f"verify: {name}= is for a formula; {against!r} is an op, which has its own")
        yield find_op(against) if isinstance(against, str) else against
        return
    _require_formula(against)
    if shapes is None:
        raise TypeError(
            f"verify: the formula {against.__name__} needs the shapes of its arrays and its value, such as "
            'shapes="(*b,n),(n)->(*b,n)", where *b stands for any axes and nothing else broadcasts'
        )
    address = f"{against.__module__}:{against.__name__}"
    before = OPS.pop(address, None)
    try:
        yield declare_formula(against, shapes, keywords, kinks)
    finally:
        OPS.pop(address, None)
        if before is not None:
            OPS[address] = before


def declare_formula(
    formula: Any,
    shapes: str,
    keywords: Mapping[str, Sequence[Any]] | None = None,
    kinks: KinkDistanceFunction | None = None,
) -> Op:
    """Declare a formula as an op of these shapes, in which nothing broadcasts but what a star stands for.

    The arguments are those of `verify`.
    """
    values = {**_list_keyword_values(formula), **(keywords or {})}
    return op(None, shapes=shapes, kinks=kinks, also=(), settle=None, **values)(formula)


def _require_formula(against: Any) -> None:
    """Raise TypeError unless this is a function whose arrays have domains."""
    name = getattr(against, "__name__", None) or repr(against)
    if not callable(against):
        raise TypeError(
            f"verify: against={name} is of type {type(against).__name__}; allowed are {WHAT_IS_ALLOWED}"
        )
    try:
        hints = typing.get_type_hints(against, include_extras=True)
        parameters = inspect.signature(against).parameters.values()
    except (NameError, TypeError, ValueError):
        hints, parameters = {}, {}.values()
    arrays = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    without = [a for a in arrays if not _has_domain(hints.get(a))]
    if not arrays or without or not hasattr(against, "__name__"):
        what = f"has no domain for {' and '.join(without)}" if hints and without else "is a plain function"
        raise TypeError(f"verify: against={name} {what}; allowed are {WHAT_IS_ALLOWED}")


def _has_domain(hint: Any) -> bool:
    return any(isinstance(m, Interval | Integers | Booleans) for m in getattr(hint, "__metadata__", ()))


def _list_keyword_values(formula: Any) -> dict[str, Sequence[Any]]:
    """Return the values to try of each keyword: both truth values, all literals, else the default.

    Of a number with a fraction half of the default is tried, too, so that a function that leaves the keyword
    out is found; it is in the range of any eps, slope or probability.

    A keyword without any of these is left out, and the declaration of the op asks for it.
    """
    hints = typing.get_type_hints(formula, include_extras=True)
    values: dict[str, Sequence[Any]] = {}
    for p in inspect.signature(formula).parameters.values():
        if p.kind is not p.KEYWORD_ONLY:
            continue
        default = [] if p.default is p.empty else [p.default]
        if typing.get_origin(hints.get(p.name)) is Literal:
            literals = typing.get_args(hints[p.name])
            values[p.name] = [*default, *(x for x in literals if x not in default)]
        elif hints.get(p.name) is bool or isinstance(p.default, bool):
            values[p.name] = [*default, *(x for x in (False, True) if x not in default)]
        elif isinstance(p.default, float) and p.default:
            values[p.name] = [p.default, p.default / 2]
        elif default:
            values[p.name] = default
    return values
