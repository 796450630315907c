"""The function that is verified: what it is called, where it is found, and whose arrays it takes."""

import inspect
import site
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from gradspec.backends import Backend, Unavailable, call, load
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import call_backend_vjp
from gradspec.properties.cases.observed.sample_cases import make_sample_cases
from gradspec.reference.op import Op

LIBRARIES = (("torch", "torch"), ("cupy", "cupy"))
"""The backends that are tried in turn, each with the library that must be imported already; numpy is last."""

N_CASES_TO_FIND_BACKEND = 3


class NoAddressError(Exception):
    """No script can import an object; the message says why."""


def name_function(fn: Callable[..., Any]) -> str:
    """Return what reports call a function: of MyNorm.apply the class, of a module or a partial what it is."""
    owner = getattr(fn, "__self__", None)
    if isinstance(owner, type):
        return owner.__name__ if fn.__name__ in ("apply", "forward") else f"{owner.__name__}.{fn.__name__}"
    inner = getattr(fn, "func", fn)  # of a functools.partial
    return str(getattr(inner, "__name__", type(fn).__name__)).replace("<lambda>", "lambda")


def find_address(thing: Any, caller: str = "") -> tuple[str, str]:
    """Return the module and the qualified name that an object is found by.

    Args:
        thing: The object.
        caller: The module that holds what has no name of its own, such as a partial.

    Raises:
        NoAddressError: There is none.
    """
    owner = getattr(thing, "__self__", None)
    if isinstance(owner, type):
        candidates = [(owner.__module__, f"{owner.__qualname__}.{thing.__name__}")]
    else:
        candidates = [(getattr(thing, "__module__", None) or "", getattr(thing, "__qualname__", ""))]
    for module in filter(None, dict.fromkeys([caller, candidates[0][0]])):
        names = [n for n, x in [*getattr(sys.modules.get(module), "__dict__", {}).items()] if x is thing]
        candidates += [(module, name) for name in names]
    found = [(module, name) for module, name in candidates if _is_found(module, name, thing)]
    for module, name in found:
        if module != "__main__":
            return module, name
    if found:
        raise NoAddressError(f"{found[0][1]} is of a module that runs as a script, not of one to import")
    raise NoAddressError(f"{name_function(thing)} is a lambda or local, and has no name in a module")


def _is_found(module: str, name: str, thing: Any) -> bool:
    try:
        found = attrgetter(name)(sys.modules[module])
        return bool(found is thing or found == thing)
    except (AttributeError, KeyError, ValueError, RuntimeError):
        return False


def find_import_folder(module_name: str) -> str | None:
    """Return the folder that a module is imported from, None if it is installed.

    Raises:
        NoAddressError: Its name does not tell where it is.
    """
    file = getattr(sys.modules[module_name], "__file__", None)
    parts = module_name.split(".")
    if not file:
        return None
    path = Path(file).absolute()  # links are part of the name
    path = path.parent if path.stem == "__init__" else path.with_suffix("")
    if list(path.parts[-len(parts) :]) != parts:
        raise NoAddressError(f"module {module_name} is not found by its name")
    folder = path.parents[len(parts) - 1]
    return None if str(folder) in site.getsitepackages() else str(folder)


def find_backend(fn: Callable[..., Any], op: Op) -> str:
    """Return the name of the backend whose arrays a function takes: torch's, if torch has been imported.

    Each is asked to differentiate the function on an ordinary case. If all raise, it is the first.
    """
    names = [*(name for name, library in LIBRARIES if library in sys.modules), "numpy"]
    return next((name for name in names if _takes_arrays_of(name, fn, op)), names[0])


def _takes_arrays_of(name: str, fn: Callable[..., Any], op: Op) -> bool:
    try:
        backend = load(name).with_ops({op: fn}, name=name)
    except (Unavailable, ImportError):
        return False
    return any(_takes_arrays_of_case(backend, case) for case in _list_ordinary_cases(op))


def _takes_arrays_of_case(backend: Backend, case: Case) -> bool:
    """Return whether the value has the class of the arrays, differentiated where there is a gradient.

    Without that np.exp would take tensors of torch.
    """
    arrays = case.to_backend_arrays(backend)[0]
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            if case.differentiable_inputs:
                value, _ = call_backend_vjp(backend, case, arrays)
            else:
                value = call(case.op, backend.ops[case.op.address], arrays, case.keywords)
    except Exception:  # of arrays of another library anything may come
        return False
    return isinstance(value, type(arrays[0]))


def _list_ordinary_cases(op: Op) -> list[Case]:
    """Return a few cases in float32, which every backend has."""
    cases = make_sample_cases(op.value_forms[0])[:N_CASES_TO_FIND_BACKEND]
    return [replace(case, dtype="float32").map_float_arrays(lambda x: x.astype(np.float32)) for case in cases]


def require_callable(fn: Any) -> None:
    """Raise TypeError for what cannot be called."""
    if not callable(fn):
        raise TypeError(
            f"verify takes a function of arrays first, such as my_norm or MyNorm.apply; got {fn!r}, "
            f"of type {type(fn).__name__}"
        )
    if inspect.isclass(fn) and hasattr(fn, "apply"):
        raise TypeError(f"verify takes a function of arrays; did you mean {fn.__name__}.apply?")
