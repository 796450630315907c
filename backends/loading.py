"""Backends by name."""

import importlib
import re
from importlib.metadata import entry_points
from operator import attrgetter

from gradspec.backends.backend import Backend, Unavailable, suggest_nearest

ENTRY_POINT_GROUP = "gradspec.backends"
"""The group of entry points in which packages offer backends, as `module:attribute`, where the attribute is a `Backend`
or a function of no arguments that returns one."""

BUILT_IN = {
    "numpy": "gradspec.backends.numpy:backend",
    "cupy": "gradspec.backends.cupy:gpu",
    "torch": "gradspec.backends.torch:cpu",
    "torch:cuda": "gradspec.backends.torch:cuda",
}


def load(name: str) -> Backend:
    """The backend of this name: one built in, an entry point of the group `gradspec.backends`, or `module:attribute`.

    They are tried in this order. The attribute is a `Backend` or a function of no arguments that returns one.
    Raises Unavailable, with the reason in one line, for one that cannot run here, ValueError for a name that means nothing,
    TypeError for an attribute that is something else.
    """
    named = _list_references()
    if name in named:
        return _load(name, named[name])
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", name):
        raise ValueError(
            f"no backend {name!r}; {suggest_nearest(name, named)}; one of your own is named module:attribute."
        )
    return _load(name, name)


def load_all() -> dict[str, Backend | Unavailable]:
    """Every backend built in or offered by an installed package, by name; for one that cannot run here, the reason.

    This imports all their libraries.
    """
    return {name: _try_to_load(name, reference) for name, reference in _list_references().items()}


def _try_to_load(name: str, reference: str) -> Backend | Unavailable:
    try:
        return _load(name, reference)
    except Unavailable as reason:
        return reason
    except Exception as error:  # someone's broken package must not hide the others
        return Unavailable(f"{name}: {_first_line(error).removeprefix(f'no backend {name!r}: ')}")


def _list_references() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)} | BUILT_IN


def _load(name: str, reference: str) -> Backend:
    path, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if name == reference and f"{path}.".startswith(f"{error.name}."):
            raise ValueError(
                f"no backend {name!r}: there is no module {error.name!r}; is its folder on PYTHONPATH?"
            ) from error
        raise Unavailable(f"{name}: {error.name} is not installed") from error
    except ImportError as error:
        raise Unavailable(f"{name}: {_first_line(error)}") from error
    try:
        found = attrgetter(attribute)(module)
    except AttributeError as error:
        raise ValueError(f"no backend {name!r}: {_first_line(error)}") from error
    backend = found if isinstance(found, Backend) or not callable(found) else found()
    if not isinstance(backend, Backend):
        raise TypeError(
            f"{name}: a backend is a gradspec.backends.Backend or a function that returns one, not {backend!r}"
        )
    return backend


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
