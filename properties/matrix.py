"""What a run found: tallies of judged cases, and the matrix of op by backend shown at its end."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradspec.properties.judge import Judgement


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


_MARKS = {
    "failed": "[bold red]✗[/]",
    "known": "[yellow]![/]",
    "passed": "[green]✓[/]",
    "skipped": "[dim]-[/]",
}


def worst_outcome(entries: Iterable[Entry]) -> str:
    """The outcome that tells most of several: one failure outweighs all else."""
    outcomes = {e.outcome for e in entries}
    return next((o for o in _MARKS if o in outcomes), "skipped")


def show(entries: list[Entry], unavailable: Mapping[str, str], console: Console) -> None:
    """Print op by backend, then property by backend, then the backends that could not run, each with its reason."""
    backends = list(dict.fromkeys(e.backend for e in entries))
    if entries:
        console.print(_table("op", sorted({e.op for e in entries}), backends, entries))
        console.print(_table("property", list(dict.fromkeys(e.property for e in entries)), backends, entries))
        console.print(
            "cases judged · share that was informative · worst error in units of what was allowed   "
            "[green]✓[/] agrees  [bold red]✗[/] disagrees  [yellow]![/] known to deviate",
            style="dim",
        )
    for name, reason in unavailable.items():
        console.print(f"unavailable  [bold]{escape(name)}[/]: {escape(reason)}", highlight=False)


def _table(by: str, rows: list[str], backends: list[str], entries: list[Entry]) -> Table:
    table = Table(by, *backends, box=None, header_style="bold", padding=(0, 3, 0, 0), pad_edge=False)
    for row in [*rows, "all"]:
        cells = ([e for e in entries if e.backend == b and row in (getattr(e, by), "all")] for b in backends)
        table.add_row(
            escape(row.removeprefix("test_").replace("_", " ") if by == "property" else row),
            *map(_cell, cells),
        )
    return table


def _cell(entries: list[Entry]) -> str:
    if not entries:
        return ""
    total = sum((e.tally for e in entries), Tally())
    share = f"{100 * total.informative / total.judged:.0f}%" if total.judged else "-"
    return f"{_MARKS[worst_outcome(entries)]} {total.judged:,} {share:>4} {total.worst:.3g}"
