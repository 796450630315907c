"""The same seed, the same run: an op's verdicts depend neither on what else is run nor on where."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gradspec.backends import load
from gradspec.properties.drawing.hypothesis_internals import get_global_seed, set_global_seed
from gradspec.properties.running.perform_property import perform_property
from gradspec.properties.running.targets import BackendUnderTest
from tests.helpers.pytest_runs import copy_properties, run_properties

FILES = "test_value.py", "test_layouts.py", "test_extremes.py"

PROPERTY_SOURCE = """
from hypothesis import given, settings
from hypothesis import strategies as st
from gradspec.properties.judging.judge import Judgement


def look_at(backend, number):
    return Judgement("agree", informative=number % 2 == 1)


@settings(max_examples=100)
@given(data=st.data())
def test_numbers(op_under_test, data):
    for _ in range(5):
        number = data.draw(st.integers(0, 2**16 - 1))
        for _ in range(number % 3):
            op_under_test.check_law(look_at, number)
"""
"""A property whose tally is another one for hardly any other numbers."""

PLUGIN_SOURCE = """
CONSTANTS = [{constants}]


def pytest_collection_modifyitems(items):
    items.reverse()
"""
"""A module of the user's, with constants that Hypothesis would draw; the items run in reverse."""

OTHER_RUNS = {
    "among others": ("--op=sum", "--op=where", "--op=expm1"),
    "reversed, beside a module with constants": ("--op=sum", "--op=where", "-p", "reversing"),
    "in two processes": ("--op=sum", "--op=where", "-n2"),
    "isolated": ("--op=where", "--op=sum", "--isolate"),
}


def read_verdicts(
    folder: Path,
    *arguments: str,
    backends: Sequence[str] = ("numpy",),
    seed: int | None = 1,
    subfolder: str = ".",
    **environment: str,
) -> dict[tuple[str, str], Any]:
    """Run a few properties from a folder of its own and return the verdicts on `sum` by property."""
    properties = copy_properties(folder / subfolder, *FILES)
    (folder / subfolder / properties / "test_numbers.py").write_text(PROPERTY_SOURCE, encoding="utf-8")
    constants = ", ".join(map(str, range(1000, 2**16, 331)))
    (folder / "reversing.py").write_text(PLUGIN_SOURCE.format(constants=constants), encoding="utf-8")
    run = run_properties(
        folder,
        *(f"--backend={name}" for name in backends),
        *("--hypothesis-profile=default", "--matrix=matrix.json", *arguments),
        properties=f"{subfolder}/{properties}",
        seed=seed,
        environment=environment,
    )
    assert run.status == 0, run.output
    entries = json.loads((folder / "matrix.json").read_text(encoding="utf-8"))["entries"]
    verdicts = {
        (e["property"], e["backend"]): (e["outcome"], e["tally"]) for e in entries if e["op"] == "sum"
    }
    assert len(verdicts) > len(FILES)  # a property of its own beside those of the files
    return verdicts


@pytest.mark.rotating
def test_the_verdicts_on_an_op_with_a_seed_are_the_same_in_any_run(tmp_path: Path) -> None:
    alone = read_verdicts(tmp_path / "alone", "--op=sum")
    for i, (way, arguments) in enumerate(OTHER_RUNS.items()):
        assert read_verdicts(tmp_path / str(i), *arguments) == alone, way
    assert read_verdicts(tmp_path / "CI", "--op=sum", CI="1") == alone
    assert read_verdicts(tmp_path / "other", "--op=sum", seed=2, CI="1") != alone


@pytest.mark.rotating
def test_the_verdicts_on_a_backend_are_the_same_beside_another(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    alone = read_verdicts(tmp_path / "alone", "--op=sum", backends=["torch"])
    beside = read_verdicts(tmp_path / "beside", "--op=sum", backends=["numpy", "torch"])
    assert {key: verdict for key, verdict in beside.items() if key[1] == "torch"} == alone


@pytest.mark.rotating
def test_the_verdicts_under_ci_depend_on_no_folder(tmp_path: Path) -> None:
    """There each test has a seed of its own, which Hypothesis takes from its source and key."""
    near = read_verdicts(tmp_path / "near", "--op=sum", seed=None, CI="1")
    assert read_verdicts(tmp_path / "far", "--op=sum", seed=None, subfolder="away", CI="1") == near


def perform_for(seconds: float, seed: int | None) -> list[int]:
    """Return the numbers that a property of three examples draws while it is repeated for so long."""
    numbers: list[int] = []

    @settings(max_examples=3, phases=[Phase.generate], database=None)
    @given(data=st.data())
    def test(backend_under_test: BackendUnderTest, data: st.DataObject) -> None:
        numbers.append(data.draw(st.integers(2**40, 2**50)))

    target = BackendUnderTest(backend=load("numpy"), dtypes=["float64"])
    before = get_global_seed()
    set_global_seed(seed)
    try:
        perform_property(test, {"backend_under_test": target}, target, "key", seconds)
        assert get_global_seed() == seed
    finally:
        set_global_seed(before)
    return numbers


def test_a_seed_and_a_budget_give_fresh_examples_that_are_always_the_same() -> None:
    first, second, other = (perform_for(1, seed) for seed in (1, 1, 2))
    assert len(set(first)) > 3  # examples of one call
    n = min(len(first), len(second))
    assert first[:n] == second[:n]
    assert first[:n] != other[:n]
    assert len(set(perform_for(1, None))) > 3
