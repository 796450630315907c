"""The end of a run: failures first, then the matrix, then what was not tested; the same as JSON."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gradspec.backends.backend import Deviation
from gradspec.properties.judging.attempt import plain
from gradspec.properties.running import matrix
from gradspec.properties.running.failure import versions, write
from gradspec.properties.running.matrix import Entry

FULL = 20  # failures that are shown in full


@dataclass
class Failure:
    """A failure as it travels from where it was found: what to show, where its script is, and what it is one of."""

    title: str
    text: str
    script: str
    signature: tuple[str, ...]
    rule: str
    subject: str


@dataclass
class Report:
    """What has been found so far."""

    entries: list[Entry] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def groups(self) -> list[list[Failure]]:
        """Failures that are one and the same together, the smallest of each group and the smallest group first."""
        by_signature: dict[tuple[str, ...], list[Failure]] = defaultdict(list)
        for failure in self.failures:
            by_signature[tuple(failure.signature)].append(failure)
        groups = [sorted(group, key=_size) for group in by_signature.values()]
        return sorted(groups, key=lambda group: _size(group[0]))

    def collapse(self) -> None:
        """Keep the files of one failure of each group."""
        for first, *others in self.groups():
            for other in others:
                if other.script != first.script:
                    Path(other.script).unlink(missing_ok=True)
                    Path(other.script).with_suffix(".json").unlink(missing_ok=True)

    def gone(self, known: Mapping[str, Sequence[Deviation]]) -> list[str]:
        """Complaints of deviations that showed nowhere. known: those that each backend declares."""
        outcomes: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        for e in self.entries:
            for rule in ("", matrix.sentence(e.property)):
                outcomes[e.backend, e.op, rule].add(e.outcome)
        return [
            f"{backend}: {d.where} is declared to deviate ({d.why}), but agreed in every case: take it out of `known`"
            for backend, deviations in known.items()
            for d in deviations
            if outcomes[backend, d.op, d.rule] == {"passed"}
        ]

    def as_json(self, **more: Any) -> dict[str, Any]:
        return {
            **more,
            "entries": [e.as_json() for e in self.entries],
            "failures": [
                {**asdict(g[0]), "same": [_place(f) for f in g[1:]], "signature": list(g[0].signature)}
                for g in self.groups()
            ],
            "versions": versions(),
        }

    def save(self, path: Path, **more: Any) -> None:
        write(path, json.dumps(self.as_json(**more), indent=2, default=repr) + "\n")


def _size(failure: Failure) -> tuple[int, str]:
    return len(failure.text), failure.title


def _place(failure: Failure) -> str:
    return f"{failure.subject}: {failure.rule}"


def show_failures(report: Report, console: Console) -> None:
    """Every group of failures: the smallest case, where else it shows, and what reproduces it."""
    groups = report.groups()
    for group in groups[:FULL]:
        _print(console, _told(group))
    for first, *_ in groups[FULL:]:
        _print(console, [Text(first.title, "red"), Text(f"  reproduce: python {first.script}")])


def _told(group: list[Failure]) -> Iterator[Text]:
    first, *others = group
    title, *body = first.text.split("\n")
    yield Text(title, "bold red")
    yield from map(Text, body)
    rules = list(dict.fromkeys(f.rule for f in others if f.subject == first.subject))
    subjects = sorted({f.subject for f in others} - {first.subject})
    if rules:
        yield Text(f"  breaks likewise: {'; '.join(rules)}", "dim")
    if subjects:
        yield Text(f"  fails likewise: {_few(subjects)}", "dim")
    if first.script:  # none for a property that was not tested
        yield Text(f"  reproduce: python {first.script}", "bold")
    yield Text()


def _few(names: list[str], most: int = 12) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def show_matrix(
    report: Report, console: Console, unavailable: dict[str, str], not_offered: dict[str, list[str]]
) -> None:
    """The tables, and below them what was not tested."""
    _print(console, matrix.tables(report.entries, console.width))
    for name, reason in unavailable.items():
        console.print()
        _print(
            console, [Text.assemble(("unavailable  ", "yellow"), (plain(name), "bold"), f": {plain(reason)}")]
        )
    for name, ops in not_offered.items():
        if ops:
            _print(
                console, [Text.assemble(("not offered  ", "yellow"), (plain(name), "bold"), f": {_few(ops)}")]
            )


def show_gone(complaints: Iterable[str], console: Console) -> None:
    _print(console, [Text.assemble(("error  ", "bold red"), plain(complaint)) for complaint in complaints])


def _print(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True, highlight=False, markup=False)
