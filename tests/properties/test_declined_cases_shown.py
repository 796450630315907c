"""What is declined, counted and shown: by its reasons, in lines below the tables, and at the end of a run."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from gradspec.backends import load
from gradspec.backends.backend import DeclaredDecline
from gradspec.properties.judging.judgement import Judgement, combine_judgements
from gradspec.properties.running.declined import find_stale_declines, format_declined
from gradspec.properties.running.tables import find_worst_outcome
from gradspec.properties.running.tally import MAX_REASONS, OTHER_REASONS, PropertyResult, Tally
from gradspec.properties.running.targets import MIN_CASES, BackendUnderTest
from tests.helpers.pytest_runs import PytestRun, copy_properties, run_properties


def make_entry(op: str = "exp", outcome: str = "passed", **tally: Any) -> PropertyResult:
    return PropertyResult("test_value_agrees", op, "mine", outcome, Tally(judged=200, **tally))


@pytest.mark.parametrize(
    ("entries", "count"),
    [
        ([make_entry()], 1),
        ([make_entry(), make_entry(declined=1, decline_reasons={"exp: not all": 1})], 0),
        ([make_entry(), make_entry("sin", declined=1, decline_reasons={"exp: not all": 1})], 1),
        ([make_entry(declined=1, decline_reasons={"exp[float32]: not all": 1})], 1),
        ([make_entry(outcome="failed")], 0),
        ([make_entry("sin")], 0),
    ],
)
def test_an_entry_by_which_nothing_is_declined_is_reported(entries: list[PropertyResult], count: int) -> None:
    complaints = find_stale_declines(entries, {"mine": [DeclaredDecline.parse("exp", "not all")]})
    assert len(complaints) == count
    assert all(c.startswith("mine: exp is declared to be declined (not all)") for c in complaints)


# What is counted


def test_declined_cases_are_counted_by_their_reasons() -> None:
    tally = Tally()
    for reason in ("vectors", "bfloat16", "vectors"):
        tally.add(Judgement("declined", reason, informative=False))
    tally.add(Judgement("agree"))
    assert (tally.judged, tally.informative, tally.declined) == (4, 1, 3)
    assert tally.decline_reasons == {"vectors": 2, "bfloat16": 1}
    total = tally + tally
    assert (total.declined, total.decline_reasons) == (6, {"vectors": 4, "bfloat16": 2})
    assert tally.decline_reasons == {"vectors": 2, "bfloat16": 1}
    assert pickle.loads(pickle.dumps(tally)) == tally
    entry = PropertyResult("test_value_agrees", "exp", "mine", "passed", tally)
    assert PropertyResult.from_json(json.loads(json.dumps(entry.as_json()))) == entry


def test_no_more_reasons_are_kept_than_can_be_read() -> None:
    tally = Tally()
    for k in range(2 * MAX_REASONS):
        tally.add(Judgement("declined", f"shape {k}", informative=False))
    assert len(tally.decline_reasons) == MAX_REASONS + 1
    assert tally.decline_reasons[OTHER_REASONS] == MAX_REASONS
    assert sum((tally + tally).decline_reasons.values()) == 4 * MAX_REASONS


def test_a_case_is_declined_if_a_part_of_it_is() -> None:
    declined, agree = Judgement("declined", "vectors", informative=False), Judgement("agree")
    assert combine_judgements([agree, declined]).verdict == "declined"
    assert combine_judgements([Judgement("disagree"), declined]).verdict == "disagree"


@pytest.mark.parametrize(
    ("judged", "declined", "informative", "untested"),
    [
        (MIN_CASES, 0, MIN_CASES // 10, False),
        (MIN_CASES, 0, MIN_CASES // 10 - 1, True),
        (10 * MIN_CASES, 9 * MIN_CASES, MIN_CASES // 10, False),  # of those that are not declined
        (10 * MIN_CASES, 9 * MIN_CASES, MIN_CASES // 10 - 1, True),
        (
            10 * MIN_CASES,
            10 * MIN_CASES - 5,
            5,
            True,
        ),  # next to nothing is left, though it all says something
        (10 * MIN_CASES, 10 * MIN_CASES, 0, False),  # not offered
        (MIN_CASES - 1, MIN_CASES - 2, 1, False),
    ],
)
def test_what_is_left_must_say_something(
    judged: int, declined: int, informative: int, untested: bool
) -> None:
    tally = Tally(judged, informative, elements=judged - declined, declined=declined)
    target = BackendUnderTest(backend=load("numpy"), dtypes=["float64"], tally=tally)
    if untested:
        with pytest.raises(AssertionError, match="untested"):
            target.require_informative_cases()
    else:
        target.require_informative_cases()


def test_a_line_for_each_op_says_how_much_it_declines_and_why() -> None:
    reasons = {"vectors": 120, "bfloat16": 40}
    some = make_entry("matmul", informative=40, declined=68, decline_reasons=reasons)
    every = make_entry("inv", outcome="declined", declined=200, decline_reasons={"\x1b[31m": 200})
    hardly = make_entry("exp", informative=199, declined=1, decline_reasons={str(k): 1 for k in range(7)})
    lines = format_declined([some, every, hardly, make_entry("sin", informative=200)])
    assert [line.plain for line in lines] == [
        "not offered  inv on mine: every case: \\x1b[31m (200)",
        "declined  matmul on mine: 34% of 200 cases: vectors (120), bfloat16 (40)",
        "declined  exp on mine: less than 1% of 200 cases: 0 (1), 1 (1), 2 (1), 3 (1) and 3 more",
    ]
    assert not [*format_declined([make_entry("sin", informative=200)])]


def test_what_is_not_offered_gets_no_tick() -> None:
    declined = make_entry(outcome="declined", declined=200)
    assert find_worst_outcome([declined]) == ("declined", "")
    assert find_worst_outcome([declined, make_entry()]) == ("passed", "")


# A run

DECLINING_SOURCE = """
from dataclasses import replace
from gradspec.backends import Declined, load

right = load("numpy")

def matmul(x, y):
    if x.ndim < 2 or y.ndim < 2:
        raise Declined("vectors")
    return right.ops["matmul"](x, y)

def tanh(x):
    raise NotImplementedError("one day")

ops = {"matmul": matmul, "tanh": tanh, "exp": right.ops["exp"]}
mine = replace(right, name="mine", ops=ops, declines=None)
strict = replace(mine, declines={"matmul": "matrices alone", "tanh": "one day"})
wrong = replace(mine, declines={"matmul": "matrices alone"})
stale = replace(mine, declines={"matmul": "matrices alone", "tanh": "one day", "exp": "never"})
"""


def run_declining(folder: Path, attribute: str, *options: str) -> PytestRun:
    (folder / "mine.py").write_text(DECLINING_SOURCE, encoding="utf-8")
    properties = copy_properties(folder, "test_value.py")
    fixed = (f"--backend=mine:{attribute}", "--matrix=out.json", "--hypothesis-profile=default")
    return run_properties(folder, *fixed, *options, properties=properties)


@pytest.mark.rotating
@pytest.mark.parametrize("isolation", ["--isolate", "--no-isolate"])
def test_a_run_shows_what_was_declined_and_passes(tmp_path: Path, isolation: str) -> None:
    run = run_declining(tmp_path, "mine", isolation)
    assert run.status == 0
    assert "not offered  tanh on mine: every case: one day (" in run.output
    (line,) = [line for line in run.output.split("\n") if line.startswith("declined  matmul on mine: ")]
    assert "% of " in line
    assert ": vectors (" in line
    (row,) = [line for line in run.output.split("\n") if line.startswith("tanh ")]
    assert "–" in row
    assert "✓" not in row
    entries = {e["op"]: e for e in json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["entries"]}
    assert (entries["tanh"]["outcome"], entries["matmul"]["outcome"]) == ("declined", "passed")
    tally = entries["matmul"]["tally"]
    assert tally["decline_reasons"] == {"vectors": tally["declined"]}
    assert tally["judged"] > tally["declined"] > 0


@pytest.mark.rotating
@pytest.mark.parametrize(
    ("attribute", "status", "text"),
    [
        ("strict", 0, "declined  matmul on mine: "),
        (
            "wrong",
            1,
            "declined a call that `declines` of mine does not name: it raised NotImplementedError: one day",
        ),
        ("stale", 1, "error  mine: exp is declared to be declined (never), but no case was"),
    ],
)
def test_a_run_holds_a_backend_to_what_it_says(
    tmp_path: Path, attribute: str, status: int, text: str
) -> None:
    run = run_declining(tmp_path, attribute, "--no-isolate")
    assert run.status == status
    assert text in run.output
