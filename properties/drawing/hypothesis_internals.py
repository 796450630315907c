"""The private parts of Hypothesis that gradspec uses: each in one function, with a test of its own.

The tests are in tests/properties/test_hypothesis_internals.py; `make pythons` runs them on the newest
release.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from hypothesis import core, settings
from hypothesis import strategies as st

_providers: Any = None
with suppress(ImportError):  # an older release
    _providers = import_module("hypothesis.internal.conjecture.providers")

Test = Any
"""A function decorated with `@given`."""


def get_settings(test: Test) -> settings:
    """Return the settings that a test is run with."""
    own: settings = test._hypothesis_internal_use_settings
    return own


def set_settings(test: Test, chosen: settings) -> None:
    """Run a test with these settings from now on; `@settings` can be applied only once."""
    test._hypothesis_internal_use_settings = chosen


def set_seed(test: Test, seed: int | None) -> None:
    """Draw the examples of a test from this seed, as `@seed` does, which can be applied only once.

    None: from no seed of its own.
    """
    test._hypothesis_internal_use_seed = seed


def get_inner_test(test: Test) -> Callable[..., Any]:
    """Return the function below `@given`."""
    inner: Callable[..., Any] = test.hypothesis.inner_test
    return inner


def set_inner_test(test: Test, inner: Callable[..., Any]) -> None:
    """Put another function below `@given`; documented for plugins that wrap tests."""
    test.hypothesis.inner_test = inner


def set_database_key(test: Test, key: str, *, despite_seed: bool = False) -> None:
    """Keep the examples of a test under a key of its own: one function runs on many ops and backends.

    Args:
        test: The test.
        key: The key.
        despite_seed: Whether examples that failed are kept and tried again although there is a global seed,
            with which Hypothesis otherwise does neither.
    """
    get_inner_test(test)._hypothesis_internal_add_digest = key.encode()  # type: ignore[attr-defined]
    if despite_seed:
        test._hypothesis_internal_database_key = hashlib.sha384(key.encode()).digest()
    elif hasattr(test, "_hypothesis_internal_database_key"):
        del test._hypothesis_internal_database_key


def get_global_seed() -> Any:
    """Return the seed of `--hypothesis-seed`, or None without it."""
    return core.global_force_seed


def set_global_seed(seed: Any) -> None:
    """Draw the examples of all tests from this seed, as `--hypothesis-seed` does."""
    core.global_force_seed = seed


@contextmanager
def ignore_source_constants() -> Iterator[None]:
    """Let no draw within the block depend on which modules happen to be loaded.

    In one draw of twenty or so, Hypothesis takes a constant that it has read in the source of a loaded
    module, unless that lies in site-packages. Which modules are loaded depends on what ran before, in which
    process, and on how gradspec is installed; the same seed then draws other cases. The cache of constants
    by strategy is another one within the block, so that tests outside keep theirs.

    Releases before 6.131.1 read no source; in these the block changes nothing.
    """
    if not reads_source_constants():
        yield
        return
    before = _providers._get_local_constants, _providers.CONSTANTS_CACHE
    _providers._get_local_constants = _providers.Constants
    _providers.CONSTANTS_CACHE = _CACHE_WITHOUT_SOURCE_CONSTANTS
    try:
        yield
    finally:
        _providers._get_local_constants, _providers.CONSTANTS_CACHE = before


def reads_source_constants() -> bool:
    """Return whether this release of Hypothesis draws constants that it reads in the source of modules."""
    return hasattr(_providers, "_get_local_constants")


_CACHE_WITHOUT_SOURCE_CONSTANTS: Any = (
    type(_providers.CONSTANTS_CACHE)(1024) if reads_source_constants() else None
)


def give_up_example(data: st.DataObject) -> None:
    """End the present example of a test as one that did not fail, whatever was drawn after this in others.

    To return would tell Hypothesis that the same draws lead to different ones.
    """
    data.conjecture_data.mark_overrun()


def drop_report(item: Any) -> None:
    """Drop what Hypothesis' plugin would print below the report of a pytest item."""
    vars(item).pop("hypothesis_report_information", None)
