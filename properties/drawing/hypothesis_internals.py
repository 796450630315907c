"""The parts of Hypothesis that gradspec uses and that are private: each in one function, with a test of its own.

tests/properties/test_hypothesis_internals.py tries each; `make pythons` does so on the newest release.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import core, settings

Test = Any
"""A function decorated with `@given`."""


def get_settings(test: Test) -> settings:
    """The settings that a test is run with."""
    own: settings = test._hypothesis_internal_use_settings
    return own


def set_settings(test: Test, chosen: settings) -> None:
    """Run a test with these settings from now on; `@settings` can be applied but once."""
    test._hypothesis_internal_use_settings = chosen


def set_seed(test: Test, seed: int) -> None:
    """Draw the examples of a test from this seed, as `@seed` does, which can be applied but once."""
    test._hypothesis_internal_use_seed = seed


def get_inner_test(test: Test) -> Callable[..., Any]:
    """The function below `@given`."""
    inner: Callable[..., Any] = test.hypothesis.inner_test
    return inner


def set_inner_test(test: Test, inner: Callable[..., Any]) -> None:
    """Put another function below `@given`; documented for plugins that wrap tests."""
    test.hypothesis.inner_test = inner


def set_database_key(test: Test, key: str) -> None:
    """Keep the examples of a test under a key of their own: one function is tried on many ops and backends."""
    get_inner_test(test)._hypothesis_internal_add_digest = key.encode()  # type: ignore[attr-defined]


def get_global_seed() -> Any:
    """The seed of `--hypothesis-seed`, None without."""
    return core.global_force_seed


def set_global_seed(seed: Any) -> None:
    """Draw the examples of all tests as `--hypothesis-seed` does."""
    core.global_force_seed = seed


def drop_report(item: Any) -> None:
    """Take back what Hypothesis' plugin would print below the report of a pytest item."""
    vars(item).pop("hypothesis_report_information", None)
