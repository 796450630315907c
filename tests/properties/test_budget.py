"""A budget is a bound from the first case on; what it has no time for comes first in the next run."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.backends import Backend, load
from gradspec.properties.judging.judgement import Judgement
from gradspec.properties.running import time_left
from gradspec.properties.running.budget import Budget
from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.perform_property import perform_property
from gradspec.properties.running.targets import BackendUnderTest
from tests.helpers.pytest_runs import run_properties

TIMING_PLUGIN_SOURCE = """
import time
from pathlib import Path
import pytest

begins = []

from gradspec.properties.running.budget import Budget

allot_seconds = Budget.allot_seconds

def note_begin(self, item):
    begins.append(time.monotonic())
    return allot_seconds(self, item)

Budget.allot_seconds = note_begin

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    Path("seconds").write_text(str(time.monotonic() - begins[0]), encoding="utf-8")
"""


MAX_SECONDS = 3.5  # for a budget of 2 s, on a busy machine


@pytest.mark.rotating
@pytest.mark.parametrize("isolation", ["--isolate", "--no-isolate"])
def test_a_budget_is_a_bound_and_the_next_run_goes_on(isolation: str, tmp_path: Path) -> None:
    (tmp_path / "timing.py").write_text(TIMING_PLUGIN_SOURCE, encoding="utf-8")
    options = (
        "--backend=numpy",
        isolation,
        "--dtype=float64",
        "-p",
        "timing",
        "--hypothesis-profile=default",
    )
    tried: list[set[tuple[str, str]]] = []
    for file in ("first.json", "second.json"):
        run = run_properties(tmp_path, *options, "--budget=2s", f"--matrix={file}", "-pcacheprovider")
        assert run.status == 0, run.output
        assert float((tmp_path / "seconds").read_text(encoding="utf-8")) < MAX_SECONDS
        assert "more properties: the budget ran out" in run.output
        entries = json.loads((tmp_path / file).read_text(encoding="utf-8"))["entries"]
        assert all(e["tally"]["judged"] for e in entries)
        tried.append({(e["property"], e["op"]) for e in entries})
    assert len(tried[0]) > 3
    assert len(tried[1] - tried[0]) > len(tried[0] & tried[1])


def test_a_budget_begins_with_the_first_property(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget = Budget(10, ["a", "b"], {})
    now = 100.0  # so long was the collection
    assert budget.seconds_left == 10
    assert budget.allot_seconds("a") == 5
    now = 109.0
    assert budget.allot_seconds("b") == 1
    now = 111.0
    assert budget.seconds_left == 0


def wait_and_fail(backend: Backend, number: int) -> Judgement:
    """Break the law for any number above 1000, as slowly as a compiler."""
    time.sleep(0.05)
    return Judgement("disagree" if number > 1000 else "agree", worst=np.inf)


def wait_long_and_fail(backend: Backend, number: int) -> Judgement:
    time.sleep(0.2)
    return wait_and_fail(backend, number)


def wait_and_agree(backend: Backend, number: int) -> Judgement:
    time.sleep(0.05)
    return Judgement("agree")


class Number(int):
    """A case that can be written down."""

    dtype = "float64"
    target_name = "programs"

    def as_lines(self) -> list[str]:
        return [str(int(self))]


def perform(law: Any, max_examples: int = 1000, **seconds: Any) -> tuple[bool, BackendUnderTest]:
    target = BackendUnderTest(backend=load("numpy"), dtypes=["float64"])

    @given(number=st.integers(0, 2**40))
    def test(backend_under_test: BackendUnderTest, number: int) -> None:
        backend_under_test.check_law(law, Number(number))

    profile = {"max_examples": max_examples, "database": None}
    is_complete = perform_property(
        test, {"backend_under_test": target}, target, "budget", profile=profile, **seconds
    )
    return is_complete, target


@pytest.mark.parametrize("seconds", [{"seconds": 0.3}, {"max_seconds": 0.3}])
def test_a_property_ends_in_the_middle_of_its_examples(seconds: dict[str, Any]) -> None:
    begin = time.monotonic()
    is_complete, target = perform(wait_and_agree, **seconds)
    assert 0.25 < time.monotonic() - begin < 1.3
    assert not is_complete
    assert 2 <= target.tally.judged <= 8


def test_a_failure_is_shrunk_for_as_long_as_there_is_time() -> None:
    begin = time.monotonic()
    with pytest.raises(LawViolation) as hurried:
        perform(wait_and_fail, seconds=1.0, max_seconds=1.0)
    assert time.monotonic() - begin < 2
    with pytest.raises(LawViolation) as patient:
        perform(wait_and_fail, seconds=1.0, max_seconds=30.0)
    assert patient.value.case.as_lines() == ["1001"]
    assert int(hurried.value.case.as_lines()[0]) > 1000


def test_a_failure_is_not_shrunk_for_ever_where_time_is_not_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_left, "MAX_SHRINK_SECONDS", 0.5)
    begin = time.monotonic()
    with pytest.raises(LawViolation) as hurried:
        perform(wait_long_and_fail, max_examples=3)
    assert time.monotonic() - begin < 4  # three more examples are tried for failures of other kinds
    assert int(hurried.value.case.as_lines()[0]) > 1000


def test_shares_add_up_to_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    names = [f"item {i}" for i in range(40)]
    budget = Budget(20, names, {name: 100 * i for i, name in enumerate(names)})
    for name in names:
        now += budget.allot_seconds(name)
    assert now == pytest.approx(20)
    assert budget.seconds_left == pytest.approx(0)
