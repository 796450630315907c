"""The private parts of Hypothesis that gradspec uses: each in one function, with a test of its own.

The tests are in tests/properties/test_hypothesis_internals.py; `make pythons` runs them on the newest
release.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import core, settings

Test = Any
"""A function decorated with `@given`."""


def get_settings(test: Test) -> settings:
    """Return the settings that a test is run with."""
    own: settings = test._hypothesis_internal_use_settings
    return own


def set_settings(test: Test, chosen: settings) -> None:
    """Run a test with these settings from now on; `@settings` can be applied only once."""
    test._hypothesis_internal_use_settings = chosen


def set_seed(test: Test, seed: int) -> None:
    """Draw the examples of a test from this seed, as `@seed` does, which can be applied only once."""
    test._hypothesis_internal_use_seed = seed


def get_inner_test(test: Test) -> Callable[..., Any]:
    """Return the function below `@given`."""
    inner: Callable[..., Any] = test.hypothesis.inner_test
    return inner


def set_inner_test(test: Test, inner: Callable[..., Any]) -> None:
    """Put another function below `@given`; documented for plugins that wrap tests."""
    test.hypothesis.inner_test = inner


def set_database_key(test: Test, key: str) -> None:
    """Keep the examples of a test under a key of its own: one function runs on many ops and backends."""
    get_inner_test(test)._hypothesis_internal_add_digest = key.encode()  # type: ignore[attr-defined]


def get_global_seed() -> Any:
    """Return the seed of `--hypothesis-seed`, or None without it."""
    return core.global_force_seed


def set_global_seed(seed: Any) -> None:
    """Draw the examples of all tests from this seed, as `--hypothesis-seed` does."""
    core.global_force_seed = seed


def drop_report(item: Any) -> None:
    """Drop what Hypothesis' plugin would print below the report of a pytest item."""
    vars(item).pop("hypothesis_report_information", None)
