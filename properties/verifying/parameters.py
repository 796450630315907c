"""What the parameters of a function say: the domains of its arrays, and the values to try of its keywords."""

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal

from gradspec.reference.domains import Booleans, Domain, Integers, Interval


def read_hints(function: Any) -> dict[str, Any]:
    """Return the annotations of a function; none if they cannot be read."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (AttributeError, NameError, TypeError):
        return {}


def find_domain(hint: Any) -> Domain | None:
    """Return the domain that an annotation has in it, if it has one."""
    found = (m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Interval | Integers | Booleans))
    return next(found, None)


def list_keyword_values(function: Callable[..., Any]) -> dict[str, Sequence[Any]]:
    """Return the values to try of each keyword: both truth values, all literals, else the default.

    Of a number with a fraction half of the default is tried, too, so that a function that leaves the keyword
    out is found; it is in the range of any eps, slope or probability.

    A keyword without any of these is left out, and the declaration of the op asks for it.
    """
    hints = read_hints(function)
    values: dict[str, Sequence[Any]] = {}
    for p in inspect.signature(function).parameters.values():
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
