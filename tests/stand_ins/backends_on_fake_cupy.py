"""The backends "cupy" and "cupy:composed" on the fake CuPy.

To name them: `--backend tests.stand_ins.backends_on_fake_cupy:gpu`.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

from tests.stand_ins import cuda_emulation, fake_cupy


@contextmanager
def replace_cupy() -> Iterator[None]:
    """While this lasts, `import cupy` finds the fake CuPy, and the backend is imported anew on top of it."""
    packages = ("cupy", "cupyx", "gradspec.backends.cupy")
    saved = {name: sys.modules[name] for name in _list_modules_of(packages)}
    for name in saved:
        del sys.modules[name]
    special = SimpleNamespace(erfc=fake_cupy.erfc)
    sys.modules["cupy"] = fake_cupy.make_cupy_module()
    sys.modules["cupyx"] = SimpleNamespace(scipy=SimpleNamespace(special=special))  # type: ignore[assignment]
    sys.modules["cupyx.scipy"] = sys.modules["cupyx.scipy.special"] = ModuleType("cupyx.scipy.special")
    try:
        yield
    finally:
        for name in _list_modules_of(packages):
            del sys.modules[name]
        sys.modules.update(saved)


def _list_modules_of(packages: tuple[str, ...]) -> list[str]:
    """Return the names of the imported modules of these packages, and of the packages themselves."""
    return [name for name in sys.modules if any(f"{name}.".startswith(f"{p}.") for p in packages)]


def composed() -> Any:
    """Return the backend "cupy:composed" on the fake CuPy."""
    return _load("composed")


def gpu() -> Any:
    """Return the backend "cupy" on the fake CuPy, its kernels compiled by g++ and run on the CPU."""
    return _load("gpu")


def gpu_in_reverse_order() -> Any:
    """Return the same; as long as the process lives, threads and blocks run from the last to the first."""
    cuda_emulation.reverse_order = True
    return gpu()


def load_with_changes(changes: Mapping[str, Any]) -> Any:
    """Return the backend "cupy" on the fake CuPy, with other objects in its modules.

    Args:
        changes: The objects by module and name: "launch.read_source" is `read_source` in `launch`.
    """
    return _load("gpu", changes)


def _load(factory_name: str, changes: Mapping[str, Any] = MappingProxyType({})) -> Any:
    with replace_cupy():
        for path, change in changes.items():
            module, _, name = path.partition(".")
            names = vars(importlib.import_module(f"gradspec.backends.cupy.{module}"))
            assert name in names, f"{module} has no {name} that could be changed"
            names[name] = change
        vars(importlib.import_module("gradspec.backends.cupy.backend"))["_find_obstacle_once"] = lambda: None
        return getattr(importlib.import_module("gradspec.backends.cupy"), factory_name)()
