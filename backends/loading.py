"""Loading of backends by name."""

import importlib
from importlib.metadata import entry_points
from operator import attrgetter

from gradspec.backends.addresses import is_import_path, suggest_nearest
from gradspec.backends.backend import Backend, Unavailable

ENTRY_POINT_GROUP = "gradspec.backends"
"""The group of entry points in which packages offer backends.

Each is a `module:attribute`, where the attribute is a `Backend` or a function of no arguments that returns
one.
"""

BUILT_IN = {
    "numpy": "gradspec.backends.numpy:backend",
    "cupy": "gradspec.backends.cupy:gpu",
    "torch": "gradspec.backends.torch:cpu",
    "torch:cuda": "gradspec.backends.torch:cuda",
}


def load(name: str) -> Backend:
    """Return the backend of this name.

    Args:
        name: the first that fits of: a built-in backend, an entry point of the group `gradspec.backends`, or
            `module:attribute`, where the attribute is a `Backend` or a function of no arguments that returns
            one.

    Raises:
        Unavailable: if it cannot run here, with the reason in one line.
        ValueError: if no backend has this name.
        TypeError: if the attribute is something else.
    """
    references = list_import_paths()
    if name in references:
        return _load(name, references[name])
    if not is_import_path(name):
        suggestion = suggest_nearest(name, references)
        raise ValueError(f"no backend {name!r}; {suggestion}; name one of your own as module:attribute.")
    return _load(name, name)


def load_all() -> dict[str, Backend | Unavailable]:
    """Return every backend that is built in or offered by an installed package, by name.

    For a backend that cannot run here, return the reason instead. This imports the libraries of all of them.
    """
    return {name: _try_to_load(name, reference) for name, reference in list_import_paths().items()}


def _try_to_load(name: str, reference: str) -> Backend | Unavailable:
    try:
        return _load(name, reference)
    except Unavailable as reason:
        return reason
    except Exception as error:  # someone's broken package must not hide the others
        return Unavailable(f"{name}: {_first_line(error).removeprefix(f'no backend {name!r}: ')}")


def list_import_paths() -> dict[str, str]:
    """Return where each backend is that is built in or offered by an installed package, by name."""
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
        target = attrgetter(attribute)(module)
    except AttributeError as error:
        raise ValueError(f"no backend {name!r}: {_first_line(error)}") from error
    backend = target if isinstance(target, Backend) or not callable(target) else target()
    if not isinstance(backend, Backend):
        raise TypeError(f"{name}: expected a `Backend` or a function that returns one, not {backend!r}")
    return backend


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
