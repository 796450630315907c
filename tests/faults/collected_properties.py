"""The properties as pytest collects them: which there are, and which of them apply to what is under test."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import is_hypothesis_test

import gradspec.properties
from gradspec.properties.running.targets import BackendUnderTest

Property = Callable[..., Any]


@cache
def properties() -> dict[str, Property]:
    """Every test function of the properties, by name."""
    tests_by_name: dict[str, Property] = {}
    for module in pkgutil.iter_modules(gradspec.properties.__path__):
        if module.name.startswith("test_"):
            contents = vars(importlib.import_module(f"gradspec.properties.{module.name}"))
            tests_by_name |= {name: test for name, test in contents.items() if is_hypothesis_test(test)}
    return tests_by_name


def applies_to(name: str, under_test: BackendUnderTest, argument: str) -> bool:
    """Whether the property takes this argument and applies to what is under test.

    The argument is "op_under_test", "spec_op", "backend_under_test" or "adapter_under_test".
    """
    test = properties()[name]
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "property"]
    return argument in inspect.signature(test).parameters and all(
        mark.kwargs["when"](under_test) for mark in marks if "when" in mark.kwargs
    )


def list_parameter_sets(name: str) -> list[dict[str, Any]]:
    """Return the sets of further arguments that the property is tried with, by pytest.mark.parametrize."""
    for mark in getattr(properties()[name], "pytestmark", ()):
        if mark.name == "parametrize":
            return [{mark.args[0]: value} for value in mark.args[1]]
    return [{}]
