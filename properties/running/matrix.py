"""What a run found: tallies of judged cases, and the tables of op by backend and property by backend."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from gradspec.properties.judging.attempt import plain
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


def sentence(test: str) -> str:
    """The property that a test of this name is."""
    return plain(test.removeprefix("test_").replace("_", " "))


MARKS = {
    "failed": ("✗", "bold red"),
    "known": ("!", "yellow"),
    "passed": ("✓", "green"),
    "skipped": ("-", "dim"),
}
"""From the outcome that outweighs all others to the one that says least."""

CELL = "  cases  info  worst"
GAP = "   "
LEGEND = "info: share of cases that could have shown an error; worst: largest error, 1 is what is allowed"


def worst_outcome(entries: Iterable[Entry]) -> str:
    """The outcome that tells most of several: one failure outweighs all else."""
    outcomes = {e.outcome for e in entries}
    return next((o for o in MARKS if o in outcomes), "skipped")


def tables(entries: list[Entry], width: int) -> Iterator[Text]:
    """The lines of both tables, split where the backends do not fit side by side."""
    yield from table("op", {e.op: plain(e.op) for e in entries}, entries, width)
    yield Text()
    yield from table("property", {e.property: sentence(e.property) for e in entries}, entries, width)
    yield Text()
    legend = Text.assemble(
        *(
            part
            for o, word in (
                ("passed", "agrees   "),
                ("failed", "disagrees   "),
                ("known", "known to deviate"),
            )
            for part in (MARKS[o], " " + word)
        )
    )
    yield legend
    yield Text(LEGEND, "dim")


def table(by: str, rows: dict[str, str], entries: list[Entry], width: int) -> Iterator[Text]:
    """A row for each value of the field `by`, under its title: those that failed first, and the sum of all last."""
    backends = list(dict.fromkeys(e.backend for e in entries))
    first = max(map(len, [by, "all", *rows.values()]))
    fit = max(1, (width - first) // (len(CELL) + 2 + len(GAP)))
    for k in range(0, len(backends), fit):
        group = backends[k : k + fit]
        shown = [e for e in entries if e.backend in group]
        if k:
            yield Text()
        yield Text(
            by.ljust(first) + "".join(f"{GAP}{_short(plain(b)):<{len(CELL) + 2}}" for b in group), "bold"
        )
        yield Text(" " * first + f"{GAP}  {CELL}" * len(group), "dim")
        for row in sorted(
            {getattr(e, by) for e in shown}, key=lambda r: (_rank(by, r, shown), *_order(by, r, rows))
        ):
            yield _line(rows[row].ljust(first), [_of(shown, b, by, row) for b in group])
        yield _line("all".ljust(first), [_of(shown, b) for b in group])


def _of(entries: list[Entry], backend: str, by: str = "", row: str = "") -> list[Entry]:
    return [e for e in entries if e.backend == backend and (not by or getattr(e, by) == row)]


def _rank(by: str, row: str, entries: list[Entry]) -> int:
    return (
        list(MARKS).index(worst_outcome(e for e in entries if getattr(e, by) == row)) // 2
    )  # failed, known | rest


def _order(by: str, row: str, rows: dict[str, str]) -> tuple[int, str]:
    return (0, row) if by == "op" else (list(rows).index(row), "")


def _line(title: str, cells: list[list[Entry]]) -> Text:
    worst = worst_outcome(e for cell in cells for e in cell)
    line = Text(title, MARKS["failed"][1] if worst == "failed" else "")
    for cell in cells:
        line.append(GAP)
        line.append_text(_cell(cell))
    return line


def _cell(entries: list[Entry]) -> Text:
    if not entries:
        return Text(" " * (len(CELL) + 2))
    total = sum((e.tally for e in entries), Tally())
    share = f"{total.informative / total.judged:.0%}" if total.judged else "-"
    numbers = f"{total.judged:>8,}  {share:>4}  {_number(total.worst):>5}"
    return Text.assemble(MARKS[worst_outcome(entries)], numbers)


def _number(x: float) -> str:
    return f"{x:.2f}" if x < 100 else "inf" if x == float("inf") else f"{x:.0e}".replace("e+", "e")


def _short(name: str) -> str:
    return name if len(name) <= len(CELL) + 2 else name[: len(CELL) + 1] + "…"
