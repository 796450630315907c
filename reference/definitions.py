"""What an op is declared by, to tell a second run of one declaration from another declaration.

A module may run twice: reloaded, or imported anew. What it declares then is made of new functions, of the
same code.
"""

from collections.abc import Mapping
from inspect import unwrap
from types import CellType, CodeType
from typing import Any

PLAIN_TYPES = (bool, int, float, str, bytes, type(None))


def describe_definition(x: Any) -> Any:
    """Return an object that is equal for what the same source makes, whenever it runs, in whatever line.

    Args:
        x: a function, of which its code, its defaults and what it closes over are looked at; a sequence or a
            mapping of such things; a plain value. Of anything else only the type is told.
    """
    if isinstance(x, PLAIN_TYPES):
        return x
    if isinstance(x, list | tuple):
        return tuple(map(describe_definition, x))
    if isinstance(x, Mapping):
        return tuple((key, describe_definition(value)) for key, value in x.items())
    if isinstance(x, CodeType):
        constants = tuple(map(describe_definition, x.co_consts))
        return x.co_code, constants, x.co_names, x.co_varnames, x.co_freevars
    function: Any = unwrap(x) if callable(x) else None
    if hasattr(function, "__code__"):
        cells = list(map(_read_cell, function.__closure__ or ()))
        defaults = function.__defaults__, function.__kwdefaults__
        return tuple(map(describe_definition, (function.__code__, *defaults, cells)))
    return type(x).__qualname__


def _read_cell(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # still empty
        return None
