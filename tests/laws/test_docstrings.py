"""Each module that holds a law says what it asks, and what it cannot see."""

import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from gradspec.backends import Backend
from gradspec.properties import laws
from gradspec.properties.judging.judge import Judgement

LAWS_FOLDER = Path(str(laws.__file__)).parent


def is_law(candidate: object, module: ModuleType) -> bool:
    """Return whether this is a public function of the module, from a backend and a case to a judgement."""
    if not inspect.isfunction(candidate) or candidate.__module__ != module.__name__:
        return False
    signature = inspect.signature(candidate)
    annotations = [parameter.annotation for parameter in signature.parameters.values()]
    takes_backend_and_case = len(annotations) == 2 and annotations[0] is Backend
    is_public = not candidate.__name__.startswith("_")
    return is_public and takes_backend_and_case and signature.return_annotation is Judgement


def import_law_modules() -> dict[str, ModuleType]:
    """Return the modules of properties/laws that hold a law, by name."""
    names = sorted(path.stem for path in LAWS_FOLDER.glob("*.py"))
    modules = {name: import_module(f"{laws.__name__}.{name}") for name in names if name != "__init__"}
    return {
        name: module
        for name, module in modules.items()
        if any(is_law(candidate, module) for candidate in vars(module).values())
    }


LAW_MODULES = import_law_modules()


def test_the_law_of_each_property_is_known_here() -> None:
    assert set(LAW_MODULES) == {
        path.stem.removeprefix("test_") for path in LAWS_FOLDER.parent.glob("test_*.py")
    }


@pytest.mark.parametrize("name", LAW_MODULES)
def test_a_law_says_what_it_asks_and_what_it_does_not_see(name: str) -> None:
    lines = str(LAW_MODULES[name].__doc__).splitlines()
    assert lines[0].endswith("?"), "the first line must be a question"
    assert any(line.startswith("Does not see: ") for line in lines), "no line begins with 'Does not see: '"
