"""The tables at the end of a run: of ops and of laws, by backend."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

from rich.text import Text

from gradspec.properties.judging.error_descriptions import make_printable
from gradspec.properties.judging.severity import rank_severity
from gradspec.properties.running.tally import PropertyResult, Tally, to_sentence

OUTCOMES = {
    "failed": ("✗", "bold red"),
    "known": ("!", "yellow"),
    "listed": ("?", "yellow"),
    "passed": ("✓", "green"),
    "declined": ("–", "dim"),
    "not asked": ("–", "dim"),
    "skipped": ("-", "dim"),
}
"""The mark and style of each outcome; one that stands earlier outweighs those after it.

"Not asked" is a law of whose op no case was found that it applies to.

What failed has the mark of its severity. So has what is "listed": it passed, but not without a violation of a
severity that does not fail.
"""

SEVERITY_MARKS = {"wrong": "✗", "raises": "↯", "edge": "◇", "unsafe": "▲", "lossy": "≈", "lax": "○"}

NOTHING_ASKED = PropertyResult("", "", "", "not asked", Tally())
"""What stands in the cell of a law that a backend is not asked, and of an op that it does not offer."""

CELL_HEADING = "  cases  info  worst"
COLUMN_GAP = "   "
LEGEND = "info: share of cases that could have shown an error; worst: largest error, where 1 is allowed"


def find_worst_outcome(entries: Iterable[PropertyResult]) -> tuple[str, str]:
    """Return the outcome and severity that outweigh all others: one failure makes the whole a failure."""
    pairs = {("listed" if e.outcome == "passed" and e.severity else e.outcome, e.severity) for e in entries}
    ranked = sorted(pairs, key=lambda pair: ([*OUTCOMES].index(pair[0]), rank_severity(pair[1])))
    return ranked[0] if ranked else ("skipped", "")


def format_tables(
    entries: list[PropertyResult],
    width: int,
    not_offered: Mapping[str, Collection[str]] = MappingProxyType({}),
    not_asked: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Iterator[Text]:
    """Yield the lines of both tables, split where the backends do not fit side by side.

    Args:
        entries: The results of the run.
        width: How many characters a line may have.
        not_offered: The ops that a backend does not have, by its name.
        not_asked: The laws that a backend is not asked, by its name; each as the name of its test.
    """
    ops = {e.op: make_printable(e.op) for e in entries}
    yield from format_table("op", ops, entries, width, not_offered)
    yield Text()
    backends = {e.backend for e in entries}
    tests = [*(e.property for e in entries), *(t for b in not_asked if b in backends for t in not_asked[b])]
    yield from format_table("law", {t: to_sentence(t) for t in tests}, entries, width, not_asked)
    yield Text()
    words = [
        "✓ agrees",
        *(f"{mark} {name}" for name, mark in SEVERITY_MARKS.items()),
        "! known to deviate",
        "– not asked",
    ]
    yield Text("  ".join(words))
    yield Text(LEGEND, "dim")
    yield from _format_undecidable(entries)


def _format_undecidable(entries: list[PropertyResult]) -> Iterator[Text]:
    """Yield a line on the elements of which nothing could be said, if there are any."""
    total = sum((e.tally for e in entries), Tally())
    if total.undecidable_elements:
        share = total.undecidable_elements / total.elements
        yield Text(
            f"undecidable: {total.undecidable_elements:,} of {total.elements:,} elements ({share:.1%}): "
            "they overflow, or the error allowed is as large as they are",
            "dim",
        )


def format_table(
    title: str,
    rows: Mapping[str, str],
    entries: list[PropertyResult],
    width: int,
    not_asked: Mapping[str, Collection[str]],
) -> Iterator[Text]:
    """Yield the lines of one table: a row for each op or law, then the sum of all rows.

    Rows that failed come first, those that no backend is asked last. Where a table is split, a part leaves
    out what none of its backends is asked and others are.

    Args:
        title: The title of the first column, "op" or "law".
        rows: The title of each row, by the name of the op or of the law's test.
        entries: What the cells sum up.
        width: How many characters a line may have; a table that is wider is split.
        not_asked: The rows for which a backend has no answer, by its name; what else has none was not tried.
    """
    backends = list(dict.fromkeys(e.backend for e in entries))
    title_width = max(map(len, [title, "all", *rows.values()]))
    backends_per_line = max(1, (width - title_width) // (len(CELL_HEADING) + 2 + len(COLUMN_GAP)))
    order = {row: i for i, row in enumerate(sorted(rows) if title == "op" else rows)}
    tried = {e.op if title == "op" else e.property for e in entries}
    for k in range(0, len(backends), backends_per_line):
        group = backends[k : k + backends_per_line]
        if k:
            yield Text()
        names = [_shorten_name(make_printable(b)).ljust(len(CELL_HEADING) + 2) for b in group]
        yield Text(title.ljust(title_width) + "".join(COLUMN_GAP + name for name in names), "bold")
        yield Text(" " * title_width + f"{COLUMN_GAP}  {CELL_HEADING}" * len(group), "dim")
        cells = {row: [_select_entries(entries, b, title, row, not_asked) for b in group] for row in rows}
        shown = [
            row
            for row in order
            if _has_result(cells[row]) or (not k and row not in tried and any(cells[row]))
        ]
        for row in sorted(shown, key=lambda r: (_rank_row(cells[r]), order[r])):
            yield _format_line(rows[row].ljust(title_width), cells[row])
        of_all = [[e for e in entries if e.backend == b] for b in group]
        yield _format_line("all".ljust(title_width), of_all)


def _select_entries(
    entries: list[PropertyResult],
    backend: str,
    title: str,
    row: str,
    not_asked: Mapping[str, Collection[str]],
) -> list[PropertyResult]:
    """Return what a cell sums up; nothing where a backend has not been tried."""
    selected = [e for e in entries if e.backend == backend and row == (e.op if title == "op" else e.property)]
    return selected or ([NOTHING_ASKED] if row in not_asked.get(backend, ()) else [])


def _has_result(cells: list[list[PropertyResult]]) -> bool:
    return any(cell and cell != [NOTHING_ASKED] for cell in cells)


def _rank_row(cells: list[list[PropertyResult]]) -> int:
    """Return 0 for a row that failed or is known to, 2 for one that says nothing, 1 for any other."""
    outcome, _ = find_worst_outcome(e for cell in cells for e in cell)
    return 0 if outcome in ("failed", "known") else 2 if outcome == "not asked" else 1


def _format_line(title: str, cells: list[list[PropertyResult]]) -> Text:
    worst, _ = find_worst_outcome(e for cell in cells for e in cell)
    line = Text(title, OUTCOMES["failed"][1] if worst == "failed" else "")
    for cell in cells:
        line.append(COLUMN_GAP)
        line.append_text(_format_cell(cell))
    return line


def _format_cell(entries: list[PropertyResult]) -> Text:
    if not entries:
        return Text(" " * (len(CELL_HEADING) + 2))
    total = sum((e.tally for e in entries), Tally())
    share = f"{total.informative / total.judged:.0%}" if total.judged else "-"
    numbers = f"{total.judged:>8,}  {share:>4}  {_format_number(total.largest_error):>5}"
    outcome, severity = find_worst_outcome(entries)
    if outcome == "not asked":
        numbers = " " * len(numbers)
    mark, style = OUTCOMES[outcome]
    if outcome in ("failed", "listed"):
        mark = SEVERITY_MARKS.get(severity, mark)
    return Text.assemble((mark, style), numbers)


def _format_number(x: float | None) -> str:
    if x is None:
        return "-"
    return f"{x:.2f}" if x < 100 else "inf" if x == float("inf") else f"{x:.0e}".replace("e+", "e")


def _shorten_name(name: str) -> str:
    return name if len(name) <= len(CELL_HEADING) + 2 else name[: len(CELL_HEADING) + 1] + "…"
