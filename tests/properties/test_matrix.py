"""The tables at the end of a run: their columns line up, whatever is in them."""

import re

from gradspec.properties.running.matrix import Entry, Tally, format_tables

BACKENDS = ("numpy", "torch", "spec")


def entry(test: str, op: str, backend: str, outcome: str, cases: int, worst: float) -> Entry:
    return Entry(test, op, backend, outcome, Tally(cases, cases // 2, 0, worst))


ENTRIES = [
    entry("test_value_agrees", "exp", "numpy", "passed", 9, 0.0),
    entry("test_value_agrees", "exp", "torch", "known", 123456, float("inf")),
    entry(
        "test_value_agrees", "layer_norm", "torch", "failed", 40, 1e7
    ),  # numpy has none, and its cell is blank
    entry("test_value_agrees", "layer_norm", "spec", "passed", 40, 0.5),
    entry("test_calls_leave_no_trace", "exp", "spec", "skipped", 0, 0.0),
]


def test_numbers_end_where_their_titles_do() -> None:
    lines = [line.plain for line in format_tables(ENTRIES, 200)]
    titles = [
        i for i, line in enumerate(lines) if "cases" in line and "worst" in line and "share" not in line
    ]
    assert len(titles) == 2
    checked = 0
    for i in titles:
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
            checked += len(numbers)
    assert checked > 20
