"""The name by which a user of a library knows a function of it, such as torch.tanh."""

import inspect
import sys
from typing import Any


def find_function_name(function: Any, array_class: type) -> str:
    """Return the name by which a function can be called once its module is imported; "" if there is none.

    Args:
        function: A function of a library or of its user, wrapped or not.
        array_class: The class of the library's arrays, whose package may have a built-in function that does
            not say where it is from.
    """
    try:
        own = inspect.unwrap(function)
        name = getattr(own, "__qualname__", "")
        owner = getattr(own, "__self__", None)
        if isinstance(owner, type):  # such as the apply of a torch.autograd.Function
            name, module = f"{owner.__qualname__}.{own.__name__}", owner.__module__
            return f"{module}.{name}" if _is_importable(module, name, own) else ""
        package = array_class.__module__.split(".")[0]
        short = getattr(own, "__name__", "")
        if _is_importable(package, short, own):
            return f"{package}.{short}"
        module = getattr(own, "__module__", None) or ""
        return f"{module}.{name}" if _is_importable(module, name, own) else ""
    except Exception:  # a library's objects may do anything when asked for an attribute
        return ""


def _is_importable(module: str, name: str, expected: Any) -> bool:
    """Return whether this name of an imported module is what is expected."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not None and (found is expected or found == expected)
