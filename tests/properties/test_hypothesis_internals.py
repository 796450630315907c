"""Private parts of Hypothesis that gradspec uses; `make pythons` tests them on the newest release, too."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import SkipTest

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

from gradspec.properties.drawing import hypothesis_internals as internals

pytest_plugins = ["pytester"]


def make_test(numbers: list[int]) -> Any:
    """Return a test that appends the numbers it is given to a list."""

    @settings(max_examples=5, derandomize=False, phases=[Phase.generate], database=None)
    @given(x=st.integers(0, 10**9))
    def test(x: int) -> None:
        numbers.append(x)

    return test


def test_settings_are_those_of_the_test_and_can_be_set() -> None:
    numbers: list[int] = []
    test = make_test(numbers)
    assert internals.get_settings(test).max_examples == 5
    internals.set_settings(test, settings(internals.get_settings(test), max_examples=2))
    test()
    assert len(numbers) == 2


def test_a_seed_gives_the_same_examples() -> None:
    first, second, other = list[int](), list[int](), list[int]()
    for numbers, seed in ((first, 1), (second, 1), (other, 2)):
        test = make_test(numbers)
        internals.set_seed(test, seed)
        test()
    assert first == second != other


def test_the_global_seed_gives_the_same_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    before, runs = internals.get_global_seed(), []
    try:
        for seed in (1, 1, 2):
            internals.set_global_seed(seed)
            assert internals.get_global_seed() == seed
            numbers: list[int] = []
            make_test(numbers)()
            runs.append(numbers)
    finally:
        internals.set_global_seed(before)
    assert runs[0] == runs[1] != runs[2]


def test_the_option_sets_the_global_seed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "from gradspec.properties.drawing.hypothesis_internals import get_global_seed\n"
        "def test(): assert get_global_seed() == 7"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--hypothesis-seed=7")
    result.assert_outcomes(passed=1)


def test_another_function_can_be_put_below() -> None:
    inner_numbers, outer_numbers = list[int](), list[int]()
    test = make_test(inner_numbers)
    inner = internals.get_inner_test(test)

    def outer(x: int) -> None:
        outer_numbers.append(x)
        inner(x=x)

    internals.set_inner_test(test, outer)
    test()
    assert inner_numbers == outer_numbers != []


@pytest.mark.parametrize("seed", [None, 1])
def test_examples_are_kept_under_a_key_of_their_own(seed: int | None) -> None:
    """A failing example is replayed under its own key, and not under another, with a seed or without."""
    database = InMemoryExampleDatabase()
    phases = {"seek": [Phase.generate], "replay": [Phase.reuse]}

    def run(key: str, phase: str) -> int:
        calls = 0

        @settings(max_examples=50, phases=phases[phase], database=database)
        @given(x=st.integers(0, 100))
        def test(x: int) -> None:
            nonlocal calls
            calls += 1
            assert x < 50

        internals.set_database_key(test, key, despite_seed=seed is not None)
        before = internals.get_global_seed()
        internals.set_global_seed(seed)
        try:
            test()
        except AssertionError:
            return calls
        except SkipTest:  # nothing to replay
            assert phase == "replay"
        finally:
            internals.set_global_seed(before)
        return 0

    assert run("tanh on torch", "seek")
    assert run("tanh on torch", "replay")
    assert not run("exp on torch", "replay")


def collect_large_integers(seed: int) -> list[int]:
    numbers: list[int] = []

    @settings(max_examples=400, derandomize=False, phases=[Phase.generate], database=None)
    @given(x=st.integers(10**12, 2 * 10**12))
    def test(x: int) -> None:
        numbers.append(x)

    internals.set_seed(test, seed)
    test()
    return numbers


@pytest.mark.skipif(not internals.reads_source_constants(), reason="a release that reads no source")
def test_no_constant_of_a_loaded_module_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn outside of the block, before and after, or else there is nothing to ignore."""
    with internals.ignore_source_constants():
        before = collect_large_integers(1)
    (tmp_path / "peculiar_module.py").write_text("NUMBER = 1_987_654_321_000", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import_module("peculiar_module")
    assert 1_987_654_321_000 in collect_large_integers(1)
    with internals.ignore_source_constants():
        assert collect_large_integers(1) == before
    assert 1_987_654_321_000 in collect_large_integers(1)


def test_a_report_can_be_taken_back() -> None:
    """The attribute is the one that Hypothesis' own plugin reads."""
    plugin = find_spec("_hypothesis_pytestplugin")
    assert plugin is not None
    assert "hypothesis_report_information" in Path(str(plugin.origin)).read_text(encoding="utf-8")
    item = SimpleNamespace(hypothesis_report_information=["said"])
    internals.drop_report(item)
    assert not hasattr(item, "hypothesis_report_information")
    internals.drop_report(item)
