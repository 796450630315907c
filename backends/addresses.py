"""Addresses of ops: "layer_norm" of one of the spec, "module:name" of one that is declared elsewhere."""

import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from gradspec.reference import OPS, Op


def suggest_nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of an error message: the names most like this one, or all names if none is similar."""
    names = sorted(names)
    matches = get_close_matches(name, names, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, matches))}?" if matches else f"there are {', '.join(names)}"


def is_import_path(name: str) -> bool:
    """Return whether a name is of the form `module:attribute`."""
    return re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", name) is not None


def find_op(address: str) -> Op:
    """Return the op of an address; the module that declares it is imported, unless it has been.

    The name alone will do where no op of the spec has it and its module has been imported.

    Raises:
        ValueError: if there is none; the message says why in one line.
    """
    if address not in OPS and is_import_path(address):
        _import_module(address)
    if address in OPS:
        return OPS[address]
    if is_import_path(address):
        module, _, name = address.partition(":")
        declared = [op.name for op in OPS.values() if op.module == module]
        hint = suggest_nearest(name, declared) if declared else "it declares none"
        raise ValueError(f"no op {address!r}: module {module} does not declare it; {hint}")
    if own := _list_own(address):
        return own[-1]
    raise ValueError(f"no op {address!r}; {suggest_nearest(address, OPS)}")


def _import_module(address: str) -> None:
    """Import the module of an address, without warnings.

    Raises:
        ValueError: if it cannot be imported.
    """
    name = address.partition(":")[0]
    try:
        with warnings.catch_warnings(action="ignore"):
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        is_missing = f"{name}.".startswith(f"{error.name}.")
        hint = "; is its folder on PYTHONPATH?" if is_missing else f", which {name} imports"
        raise ValueError(f"no op {address!r}: there is no module {error.name!r}{hint}") from error
    except (Exception, SystemExit) as error:
        line = next(iter(str(error).splitlines()), "")
        what = f"{type(error).__name__}: {line}".removesuffix(": ")
        raise ValueError(f"no op {address!r}: importing {name} raised {what}") from error


def _list_own(name: str) -> list[Op]:
    """Return the ops of this name that are declared outside of the spec, the last one last."""
    return [op for op in OPS.values() if op.module and op.name == name]


class OpTable(Mapping[str, Callable[..., Any]]):
    """A read-only table of functions, by the addresses of the ops that they compute.

    Args:
        ops: the functions. The key of each is an op, its address, or its name alone. That means the op of
            this name that the module which makes the table declares or has imported; else the one of the
            spec; else the last one that any module has declared.
        owner: whose table it is, for messages.

    Raises:
        ValueError: for a key that names no op.
    """

    def __init__(self, ops: Mapping[Any, Callable[..., Any]], owner: str) -> None:
        maker = _find_maker()
        self._functions = {_find_address(key, maker, owner): function for key, function in ops.items()}

    def __getitem__(self, address: str) -> Callable[..., Any]:
        return self._functions[address]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __repr__(self) -> str:
        return repr(self._functions)


def _find_maker() -> Mapping[str, Any]:
    """Return the globals of the module that makes a backend: the first that is not there to make one."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__") in _MAKING_BACKENDS:
        frame = frame.f_back
    return frame.f_globals


_MAKING_BACKENDS = ("gradspec.backends.backend", "dataclasses", __name__)


def _find_address(key: Any, maker: Mapping[str, Any], owner: str) -> str:
    if isinstance(key, Op):
        return key.address
    own = f"{maker.get('__name__')}:{key}"
    if own in OPS:
        return own
    for x in [*maker.values()]:
        if isinstance(x, Op) and x.module and x.name == key:
            return x.address
    if key in OPS:
        return str(key)
    if is_import_path(str(key)):
        return find_op(key).address
    if found := _list_own(key):
        return found[-1].address
    raise ValueError(
        f"{owner}: there is no op {key!r}, unless you declare it by `gradspec.op` before; "
        + suggest_nearest(str(key), {op.name for op in OPS.values()})
    )
