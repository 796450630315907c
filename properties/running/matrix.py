"""What a run found: tallies of judged cases, and the tables of op by backend and property by backend."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from gradspec.properties.judging.attempt import make_printable
from gradspec.properties.judging.judge import Judgement


@dataclass
class Tally:
    """The cases of one property, op and backend: how many were judged, informative and undecidable; the worst error."""

    judged: int = 0
    informative: int = 0
    undecidable: int = 0
    worst: float = 0.0

    def add(self, judgement: Judgement) -> None:
        self.judged += 1
        self.informative += judgement.informative
        self.undecidable += judgement.verdict == "undecidable"
        self.worst = max(self.worst, judgement.worst)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.judged + other.judged,
            self.informative + other.informative,
            self.undecidable + other.undecidable,
            max(self.worst, other.worst),
        )


@dataclass
class Entry:
    """How one property ended for one op and backend: "passed", "failed", "skipped" or "known" (failed as foretold)."""

    property: str
    op: str
    backend: str
    outcome: str
    tally: Tally

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Entry":
        return cls(**{**entry, "tally": Tally(**entry["tally"])})


def to_sentence(test: str) -> str:
    """The property that a test of this name is."""
    return make_printable(test.removeprefix("test_").replace("_", " "))


OUTCOME_MARKS = {
    "failed": ("✗", "bold red"),
    "known": ("!", "yellow"),
    "passed": ("✓", "green"),
    "skipped": ("-", "dim"),
}
"""From the outcome that outweighs all others to the one that says least."""

CELL_HEADING = "  cases  info  worst"
COLUMN_GAP = "   "
LEGEND = "info: share of cases that could have shown an error; worst: largest error, 1 is what is allowed"


def find_worst_outcome(entries: Iterable[Entry]) -> str:
    """The outcome that tells most of several: one failure outweighs all else."""
    outcomes = {e.outcome for e in entries}
    return next((o for o in OUTCOME_MARKS if o in outcomes), "skipped")


def format_tables(entries: list[Entry], width: int) -> Iterator[Text]:
    """The lines of both tables, split where the backends do not fit side by side."""
    yield from format_table("op", {e.op: make_printable(e.op) for e in entries}, entries, width)
    yield Text()
    yield from format_table(
        "property", {e.property: to_sentence(e.property) for e in entries}, entries, width
    )
    yield Text()
    legend = Text.assemble(
        *(
            part
            for o, word in (
                ("passed", "agrees   "),
                ("failed", "disagrees   "),
                ("known", "known to deviate"),
            )
            for part in (OUTCOME_MARKS[o], " " + word)
        )
    )
    yield legend
    yield Text(LEGEND, "dim")


def format_table(field_name: str, rows: dict[str, str], entries: list[Entry], width: int) -> Iterator[Text]:
    """A row for each value of the field `by`, under its title: those that failed first, and the sum of all last."""
    backends = list(dict.fromkeys(e.backend for e in entries))
    first = max(map(len, [field_name, "all", *rows.values()]))
    fit = max(1, (width - first) // (len(CELL_HEADING) + 2 + len(COLUMN_GAP)))
    for k in range(0, len(backends), fit):
        group = backends[k : k + fit]
        shown = [e for e in entries if e.backend in group]
        if k:
            yield Text()
        yield Text(
            field_name.ljust(first)
            + "".join(
                f"{COLUMN_GAP}{_shorten_name(make_printable(b)):<{len(CELL_HEADING) + 2}}" for b in group
            ),
            "bold",
        )
        yield Text(" " * first + f"{COLUMN_GAP}  {CELL_HEADING}" * len(group), "dim")
        for row in sorted(
            {getattr(e, field_name) for e in shown},
            key=lambda r: (_rank_row(field_name, r, shown), *_get_sort_key(field_name, r, rows)),
        ):
            yield _format_line(
                rows[row].ljust(first), [_select_entries(shown, b, field_name, row) for b in group]
            )
        yield _format_line("all".ljust(first), [_select_entries(shown, b) for b in group])


def _select_entries(entries: list[Entry], backend: str, by: str = "", row: str = "") -> list[Entry]:
    return [e for e in entries if e.backend == backend and (not by or getattr(e, by) == row)]


def _rank_row(by: str, row: str, entries: list[Entry]) -> int:
    return (
        list(OUTCOME_MARKS).index(find_worst_outcome(e for e in entries if getattr(e, by) == row)) // 2
    )  # failed, known | rest


def _get_sort_key(by: str, row: str, rows: dict[str, str]) -> tuple[int, str]:
    return (0, row) if by == "op" else (list(rows).index(row), "")


def _format_line(title: str, cells: list[list[Entry]]) -> Text:
    worst = find_worst_outcome(e for cell in cells for e in cell)
    line = Text(title, OUTCOME_MARKS["failed"][1] if worst == "failed" else "")
    for cell in cells:
        line.append(COLUMN_GAP)
        line.append_text(_format_cell(cell))
    return line


def _format_cell(entries: list[Entry]) -> Text:
    if not entries:
        return Text(" " * (len(CELL_HEADING) + 2))
    total = sum((e.tally for e in entries), Tally())
    share = f"{total.informative / total.judged:.0%}" if total.judged else "-"
    numbers = f"{total.judged:>8,}  {share:>4}  {_format_number(total.worst):>5}"
    return Text.assemble(OUTCOME_MARKS[find_worst_outcome(entries)], numbers)


def _format_number(x: float) -> str:
    return f"{x:.2f}" if x < 100 else "inf" if x == float("inf") else f"{x:.0e}".replace("e+", "e")


def _shorten_name(name: str) -> str:
    return name if len(name) <= len(CELL_HEADING) + 2 else name[: len(CELL_HEADING) + 1] + "…"
