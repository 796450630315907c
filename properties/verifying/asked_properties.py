"""The properties of `properties/test_*.py` that `verify` asks, found by name and without pytest's plugin."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest

from gradspec.properties.running.selection import restrict_to_property
from gradspec.properties.running.targets import OpUnderTest

CASES_PER_EXAMPLE = 6


@dataclass(frozen=True)
class Property:
    """A property of `properties/test_*.py`.

    Attributes:
        test: The test.
        n_cases: How many of the cases of an example it judges.
    """

    test: Callable[..., Any]
    n_cases: int

    @property
    def name(self) -> str:
        return self.test.__name__

    def restrict(self, target: OpUnderTest) -> OpUnderTest | None:
        """Return the target with those values of its op that the property applies to; None without any."""
        marks = getattr(self.test, "pytestmark", ())
        restricted = restrict_to_property(lambda name: [m for m in marks if m.name == name], target)
        return restricted if isinstance(restricted, OpUnderTest) else None


def find_property(module: str, test: str, n_cases: int = CASES_PER_EXAMPLE) -> Property:
    """Return a property by the name of its module and of its test."""
    with _allow_marks():
        return Property(getattr(import_module(f"gradspec.properties.{module}"), test), n_cases)


@contextmanager
def _allow_marks() -> Iterator[None]:
    """Let modules use pytest's mark `property`, of which a run without gradspec's plugin does not know.

    Pytest would warn of it; with `--strict-markers` it would raise.
    """
    config, pytest.mark._config = pytest.mark._config, None
    try:
        yield
    finally:
        pytest.mark._config = config
