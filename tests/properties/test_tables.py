"""The tables at the end of a run: their columns line up, whatever they hold."""

import re

from gradspec.properties.running.tables import format_tables
from gradspec.properties.running.tally import PropertyResult, Tally

BACKENDS = ("numpy", "torch", "spec")


def make_entry(test: str, op: str, backend: str, outcome: str, cases: int, worst: float) -> PropertyResult:
    return PropertyResult(test, op, backend, outcome, Tally(cases, cases // 2, 0, worst))


ENTRIES = [
    make_entry("test_value_agrees", "exp", "numpy", "passed", 9, 0.0),
    make_entry("test_value_agrees", "exp", "torch", "known", 123456, float("inf")),
    # numpy has no such entry, and its cell is blank.
    make_entry("test_value_agrees", "layer_norm", "torch", "failed", 40, 1e7),
    make_entry("test_value_agrees", "layer_norm", "spec", "passed", 40, 0.5),
    make_entry("test_calls_leave_no_trace", "exp", "spec", "skipped", 0, 0.0),
]


def test_numbers_end_where_their_titles_do() -> None:
    lines = [line.plain for line in format_tables(ENTRIES, 200)]
    headings = [
        i for i, line in enumerate(lines) if "cases" in line and "worst" in line and "share" not in line
    ]
    assert len(headings) == 2
    number_count = 0
    for i in headings:
        ends = {m.end() for m in re.finditer(r"cases|info|worst", lines[i])}
        assert len(ends) == 3 * len(BACKENDS)
        starts = [m.start() for m in re.finditer(r"\S+", lines[i - 1])][1:]
        for line in lines[i + 1 :]:
            if not line.strip():
                break
            numbers = [
                m.end() for m in re.finditer(r"(?<=\s)[\d,.e]+%?(?=\s|$)|(?<=\s)(inf|-)(?=\s|$)", line)
            ]
            assert {*numbers} <= ends | {start + 1 for start in starts}, line
            marks = [m.start() for m in re.finditer(r"[✓✗!]", line)]
            assert {*marks} <= {*starts}, line
            number_count += len(numbers)
    assert number_count > 20


def list_rows(width: int) -> list[str]:
    """Return the lines of the table of laws whose titles say what is tried."""
    not_asked = {
        "numpy": ["test_kinks"],
        "torch": ["test_kinks", "test_spec"],
        "spec": ["test_kinks", "test_value"],
    }
    entries = [
        make_entry("test_value", "exp", "numpy", "passed", 9, 0.0),
        make_entry("test_value", "exp", "torch", "passed", 9, 0.0),
        make_entry("test_spec", "exp", "spec", "passed", 9, 0.0),
        make_entry("test_untried", "exp", "torch", "passed", 9, 0.0),
    ]
    not_asked["numpy"].append("test_spec")
    lines = [line.plain for line in format_tables(entries, width, {}, not_asked)]
    return [line for line in lines if line.startswith(("value", "spec", "kinks", "untried"))]


def test_what_a_backend_is_not_asked_has_a_dash_and_what_was_not_tried_has_none() -> None:
    rows = {line.split()[0]: line for line in list_rows(200)}
    assert [rows[name].count("–") for name in ("value", "spec", "kinks", "untried")] == [1, 2, 3, 0]
    assert rows["untried"].count("✓") == 1
    # It stands where the mark of its backend would.
    assert rows["value"].index("–") == rows["spec"].index("✓")


def test_a_part_of_a_split_table_leaves_out_what_others_are_asked() -> None:
    rows = [line.split()[0] for line in list_rows(50)]
    assert sorted(rows) == ["kinks", "spec", "untried", "value", "value"]
