"""The tables at the end of a run: of ops and of properties, by backend."""

from collections.abc import Iterable, Iterator

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
    "skipped": ("-", "dim"),
}
"""The mark and style of each outcome; one that stands earlier outweighs those after it.

What failed has the mark of its severity. So has what is "listed": it passed, but not without a violation of a
severity that does not fail.
"""

SEVERITY_MARKS = {"wrong": "✗", "raises": "↯", "edge": "◇", "unsafe": "▲", "lossy": "≈", "lax": "○"}

CELL_HEADING = "  cases  info  worst"
COLUMN_GAP = "   "
LEGEND = (
    "info: share of cases that could have shown an error; worst: error of the nearest cases, 1 is allowed"
)


def find_worst_outcome(entries: Iterable[PropertyResult]) -> tuple[str, str]:
    """Return the outcome and severity that outweigh all others: one failure makes the whole a failure."""
    pairs = {("listed" if e.outcome == "passed" and e.severity else e.outcome, e.severity) for e in entries}
    ranked = sorted(pairs, key=lambda pair: ([*OUTCOMES].index(pair[0]), rank_severity(pair[1])))
    return ranked[0] if ranked else ("skipped", "")


def format_tables(entries: list[PropertyResult], width: int) -> Iterator[Text]:
    """Yield the lines of both tables, split where the backends do not fit side by side."""
    yield from format_table("op", {e.op: make_printable(e.op) for e in entries}, entries, width)
    yield Text()
    yield from format_table(
        "property", {e.property: to_sentence(e.property) for e in entries}, entries, width
    )
    yield Text()
    words = [
        "✓ agrees",
        *(f"{mark} {name}" for name, mark in SEVERITY_MARKS.items()),
        "! known to deviate",
        "– not offered",
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
            f"undecidable: {total.undecidable_elements:,} of {total.elements:,} elements ({share:.1%}), as "
            "they overflow, or what they may be off by is as large as they are",
            "dim",
        )


def format_table(
    field_name: str, rows: dict[str, str], entries: list[PropertyResult], width: int
) -> Iterator[Text]:
    """Yield the lines of one table: a row for each value of one field, then the sum of all rows.

    Rows that failed come first.

    Args:
        field_name: The field of `Entry` that the rows stand for; also the title of their column.
        rows: The title of each row, by the value of that field.
        entries: What the cells sum up.
        width: How many characters a line may have; a table that is wider is split.
    """
    backends = list(dict.fromkeys(e.backend for e in entries))
    title_width = max(map(len, [field_name, "all", *rows.values()]))
    backends_per_line = max(1, (width - title_width) // (len(CELL_HEADING) + 2 + len(COLUMN_GAP)))
    for k in range(0, len(backends), backends_per_line):
        group = backends[k : k + backends_per_line]
        group_entries = [e for e in entries if e.backend in group]
        if k:
            yield Text()
        names = [_shorten_name(make_printable(b)).ljust(len(CELL_HEADING) + 2) for b in group]
        yield Text(field_name.ljust(title_width) + "".join(COLUMN_GAP + name for name in names), "bold")
        yield Text(" " * title_width + f"{COLUMN_GAP}  {CELL_HEADING}" * len(group), "dim")
        for row in sorted(
            {getattr(e, field_name) for e in group_entries},
            key=lambda r: (_rank_row(field_name, r, group_entries), *_get_sort_key(field_name, r, rows)),
        ):
            cells = [_select_entries(group_entries, b, field_name, row) for b in group]
            yield _format_line(rows[row].ljust(title_width), cells)
        yield _format_line("all".ljust(title_width), [_select_entries(group_entries, b) for b in group])


def _select_entries(
    entries: list[PropertyResult], backend: str, field_name: str = "", row: str = ""
) -> list[PropertyResult]:
    return [e for e in entries if e.backend == backend and (not field_name or getattr(e, field_name) == row)]


def _rank_row(field_name: str, row: str, entries: list[PropertyResult]) -> int:
    """Return 0 for a row that failed or is known to, 1 for any other."""
    outcome, _ = find_worst_outcome(e for e in entries if getattr(e, field_name) == row)
    return int(outcome not in ("failed", "known"))


def _get_sort_key(field_name: str, row: str, rows: dict[str, str]) -> tuple[int, str]:
    return (0, row) if field_name == "op" else (list(rows).index(row), "")


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
