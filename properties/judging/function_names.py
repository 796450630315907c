"""The name by which a user of a library knows a function of it, such as torch.tanh."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

MAX_DOTS = 2  # in the name of a module that is searched, as in torch.nn.functional


def find_function_name(function: Any, array_class: type, op_name: str = "") -> str:
    """Return the name by which a function can be called once its module is imported; "" if there is none.

    A name in public modules of its package is preferred to one where it was defined, such as
    torch.nn.functional.gelu to torch._C._nn.gelu, and that of the op to others in the same place.

    Args:
        function: A function of a library or of its user, wrapped or not.
        array_class: The class of the library's arrays, whose package may have a built-in function that does
            not say where it is from.
        op_name: The name of the op that the function computes.
    """
    try:
        layers = list(_unwrap(function))
        own = layers[-1]
        name = getattr(own, "__qualname__", "")
        owner = getattr(own, "__self__", None)
        if isinstance(owner, type):  # such as the apply of a torch.autograd.Function
            name, module = f"{owner.__qualname__}.{own.__name__}", owner.__module__
            return f"{module}.{name}" if _is_importable(module, name, own) else ""
        module = getattr(own, "__module__", None) or ""
        for package in dict.fromkeys((array_class.__module__.split(".")[0], module.split(".")[0])):
            aliases = list(_iterate_public_names(package, layers))
            if aliases:
                return min(aliases, key=lambda alias: _rate_alias(alias, op_name))
        return f"{module}.{name}" if _is_importable(module, name, own) else ""
    except Exception:  # a library's objects may do anything when asked for an attribute
        return ""


def _unwrap(function: Any) -> Iterator[Any]:
    """Yield a function, and what it wraps, the innermost last."""
    seen: list[int] = []
    while function is not None and id(function) not in seen:
        seen.append(id(function))
        yield function
        function = getattr(function, "__wrapped__", None)


def _iterate_public_names(package: str, objects: Sequence[Any]) -> Iterator[str]:
    """Yield the names that imported public modules of a package have for any of these objects."""
    wanted = set(map(id, objects))
    for name, module in list(sys.modules.items()):
        parts = name.split(".")
        if parts[0] != package or len(parts) > MAX_DOTS + 1 or any(p.startswith("_") for p in parts):
            continue
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if id(value) in wanted and not attribute.startswith("_"):
                yield f"{name}.{attribute}"


def _rate_alias(alias: str, op_name: str) -> tuple[object, ...]:
    """Return how little a user would call a function by this name: less is better."""
    return alias.rpartition(".")[2] != op_name, alias.count("."), len(alias), alias


def _is_importable(module: str, name: str, expected: Any) -> bool:
    """Return whether this name of an imported module is what is expected."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not None and (found is expected or found == expected)
