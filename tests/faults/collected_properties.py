"""The properties as pytest collects them: which there are, and which of them apply to what is under test."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import is_hypothesis_test

import gradspec.properties
from gradspec.properties.running.selection import restrict_to_property
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
    return argument in inspect.signature(properties()[name]).parameters and (
        restrict_to(name, under_test) is not None
    )


def restrict_to(name: str, under_test: BackendUnderTest) -> BackendUnderTest | None:
    """What is under test, with those values of its op that the property applies to; None without any."""

    def iterate_marks(of: str) -> Iterator[pytest.Mark]:
        return (mark for mark in getattr(properties()[name], "pytestmark", ()) if mark.name == of)

    return restrict_to_property(iterate_marks, under_test)


def list_parameter_sets(name: str) -> list[dict[str, Any]]:
    """Return the sets of further arguments that the property is tried with, by pytest.mark.parametrize."""
    for mark in getattr(properties()[name], "pytestmark", ()):
        if mark.name == "parametrize":
            return [{mark.args[0]: value} for value in mark.args[1]]
    return [{}]
