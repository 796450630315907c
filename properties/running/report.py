"""The report of a run: failures first, then the matrix, then what was not tested; the same as JSON."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gradspec.properties.judging.error_descriptions import make_printable
from gradspec.properties.judging.severity import SEVERITIES, rank_severity
from gradspec.properties.laws.first_contact import ADAPTER
from gradspec.properties.running import tables
from gradspec.properties.running.causes import group_by_cause
from gradspec.properties.running.declined import format_declined, format_flushing
from gradspec.properties.running.failure import collect_versions, format_command
from gradspec.properties.running.files import write_atomically
from gradspec.properties.running.op_selection import PROGRAMS, SPEC
from gradspec.properties.running.tally import PropertyResult, Tally, to_sentence

PLAINEST_LAWS = ("value agrees", "every gradient agrees")
"""Of several laws that are broken on equal cases, one of these is named first."""

UNTESTED = "hardly any case could have failed, or the property could not be tried"

MAX_NAMES = 12  # of ops in one line
MAX_FAILURES_IN_FULL = 20  # of further ones only the title, a line of reason and the script are shown


@dataclass
class FailureRecord:
    """A failure in plain values, as it is sent from one process to another and saved.

    Attributes:
        title: The first line of its text.
        text: The failure as people read it.
        script: The path of the script that reproduces it; "" if there is none.
        signature: What failures of one op and cause have in common.
        law: The sentence of the law.
        target_name: The name of the op, or "programs".
        severity: What it does to a user; "" for a property that was not tested.
        backend: The name of the backend.
        loss: How many times as far off as the stable formula allows, if it is lossy.
        reason: Why it failed, in one line.
    """

    title: str
    text: str
    script: str
    signature: tuple[str, ...]
    law: str
    target_name: str
    severity: str = "wrong"
    backend: str = ""
    loss: float = 0.0
    reason: str = ""


@dataclass
class RunResults:
    """The results of a run so far.

    Attributes:
        entries: The outcome of each property.
        failures: The failures.
        listed: The violations of severities that do not fail.
    """

    entries: list[PropertyResult] = field(default_factory=list)
    failures: list[FailureRecord] = field(default_factory=list)
    listed: list[FailureRecord] = field(default_factory=list)

    def group_failures(self) -> list[list[FailureRecord]]:
        """Return groups of failures of one cause: adapters first, then the spec, the worst, the smallest."""
        groups = [sorted(group, key=_get_sort_key) for group in group_by_cause(self.failures)]
        return sorted(groups, key=lambda group: _get_sort_key(group[0]))

    def group_listed(self) -> list[list[FailureRecord]]:
        """Return groups of what is only listed, by severity, backend and op, in the same order."""
        by_place: dict[tuple[str, str, str], list[FailureRecord]] = defaultdict(list)
        for violation in self.listed:
            by_place[violation.severity, violation.backend, violation.target_name].append(violation)
        groups = [sorted(group, key=_get_sort_key) for group in by_place.values()]
        return sorted(groups, key=lambda group: _get_sort_key(group[0]))

    @property
    def shown_scripts(self) -> set[str]:
        """The scripts that are shown: of the first of each group of failures, and of what is only listed."""
        return {group[0].script for group in [*self.group_failures(), *self.group_listed()]}

    def delete_duplicate_files(self) -> None:
        """Delete the files of all failures, and of what is only listed, whose scripts are not shown."""
        for script in {record.script for record in [*self.failures, *self.listed]} - self.shown_scripts:
            if script:  # "" where it could not be written
                with suppress(OSError):
                    Path(script).unlink(missing_ok=True)
                    Path(script).with_suffix(".json").unlink(missing_ok=True)

    def as_json(self, **more: Any) -> dict[str, Any]:
        return {
            **more,
            "entries": [{**e.as_json(), "law": to_sentence(e.property)} for e in self.entries],
            "failures": list(map(_group_as_json, self.group_failures())),
            "listed": list(map(_group_as_json, self.group_listed())),
            "versions": collect_versions(),
        }

    def save(self, path: Path, **more: Any) -> None:
        write_atomically(path, json.dumps(self.as_json(**more), indent=2, default=repr) + "\n")


def _group_as_json(group: list[FailureRecord]) -> dict[str, Any]:
    first, *others = group
    same = [_describe_place(f) for f in others]
    return {**asdict(first), "same": same, "signature": list(first.signature)}


def _get_sort_key(failure: FailureRecord) -> tuple[Any, ...]:
    return (
        failure.target_name != ADAPTER,
        failure.backend != SPEC,
        rank_severity(failure.severity),
        -failure.loss,
        failure.target_name == PROGRAMS,  # a call of one op says more
        len(failure.text) - len(failure.title),
        failure.law not in PLAINEST_LAWS,
        failure.title,
    )


def _describe_place(failure: FailureRecord) -> str:
    return f"{failure.target_name}: {failure.law}"


def show_failures(report: RunResults, console: Console) -> None:
    """Print every group of failures: the smallest case, where else it fails, and how to reproduce it.

    The worst come first; below a line on each severity that they are of.
    """
    last_severity: str | None = None
    wrong_in_spec = {failure.target_name for failure in report.failures if failure.backend == SPEC}
    for i, group in enumerate(report.group_failures()):
        first, is_in_full = group[0], i < MAX_FAILURES_IN_FULL
        if first.severity != last_severity:
            last_severity = first.severity
            _print(console, [_format_severity(first.severity)])
        is_doubtful = first.backend != SPEC and first.target_name in wrong_in_spec
        _print(console, _format_group(group, is_doubtful) if is_in_full else _format_briefly(first))


def _format_severity(severity: str) -> Text:
    """Return a line on what a severity means; one that is "" is that of a property that was not tested."""
    meanings: Mapping[Any, str] = SEVERITIES
    return Text(f"--- {severity or 'untested'}: {meanings.get(severity, UNTESTED)}", "dim")


def _format_group(group: list[FailureRecord], is_doubtful: bool) -> Iterator[Text]:
    """Yield the lines of a group of failures; doubtful if the declaration they were judged by fails too."""
    first, *others = group
    title, *body = first.text.split("\n")
    yield Text(title, "bold red")
    yield from map(Text, body)
    if is_doubtful:
        yield Text(
            f"  the declaration of {first.target_name} fails too, see above, and may be all that is wrong"
        )
    same_target = [f.law for f in others if f.target_name == first.target_name]
    other_laws = [law for law in dict.fromkeys(same_target) if law != first.law]
    other_targets = sorted({f.target_name for f in others} - {first.target_name})
    if other_laws:
        yield Text(f"  also breaks: {'; '.join(other_laws)}", "dim")
    if other_targets:
        yield Text(f"  also in: {_join_names(other_targets)}", "dim")
    if first.script:  # none for a property that was not tested
        yield Text(f"  reproduce: {format_command(first.script)}", "bold")
    yield Text()


def _format_briefly(failure: FailureRecord) -> Iterator[Text]:
    yield Text(failure.title, "red")
    yield Text(f"  {failure.reason}")
    if failure.script:
        yield Text(f"  reproduce: {format_command(failure.script)}")


def _join_names(names: list[str]) -> str:
    rest = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def show_matrix(
    report: RunResults,
    console: Console,
    unavailable: Mapping[str, str],
    not_offered: Mapping[str, list[str]],
    not_asked: Mapping[str, list[str]],
    failed_names: Collection[str] = (),
) -> None:
    """Print the tables, and below them, in one block, what did not fail and what was not tested.

    Args:
        report: The results of the run.
        console: Where to print them.
        unavailable: Why a backend cannot run here, by its name.
        not_offered: The selected ops that a backend does not have, by its name.
        not_asked: The laws that a backend is not asked, by its name; each as the name of its test.
        failed_names: The backends that cannot run here and were asked for by name, which fails the run.
    """
    _print(console, tables.format_tables(report.entries, console.width, not_offered, not_asked))
    notes = [
        *_format_listed(report),
        *format_declined(report.entries),
        *format_flushing(report.entries),
        *(
            _format_untested("unavailable", name, make_printable(why))
            for name, why in unavailable.items()
            if name not in failed_names
        ),
        *_format_not_offered(report.entries, not_offered),
    ]
    _print(console, [Text(), *notes] if notes else [])
    show_errors((f"--backend {name}: {unavailable[name]}" for name in failed_names), console)


def _format_not_offered(
    entries: list[PropertyResult], not_offered: Mapping[str, list[str]]
) -> Iterator[Text]:
    """Yield a line for each backend that lacks ops: their names, or their number if most are missing."""
    for name, ops in not_offered.items():
        tried = {e.op for e in entries if e.backend == name} - {PROGRAMS, ADAPTER}
        count = len(ops) + len(tried)
        if ops:
            is_list = len(ops) <= max(len(tried), MAX_NAMES)
            text = _join_names(ops) if is_list else f"{len(ops)} of {count} ops"
            yield _format_untested("not offered", name, text)


def _format_listed(report: RunResults) -> Iterator[Text]:
    """Yield a line for each op of a backend and severity that does not fail: how often, and an example."""
    counts: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for e in report.entries:
        if e.outcome != "known":
            counts[e.backend, e.op] += e.tally
    for first, *_ in report.group_listed():
        tally = counts[first.backend, first.target_name]
        where = f"{make_printable(first.target_name)} on {make_printable(first.backend)}"
        cases = f"{tally.violations.get(first.severity, 0):,} of {tally.judged:,} cases"
        yield Text.assemble(
            (f"{first.severity}  ", "yellow"),
            (where, "bold"),
            f": {cases}: {make_printable(first.reason)}; {format_command(first.script)}",
        )


def _format_untested(title: str, backend: str, text: str) -> Text:
    return Text.assemble((f"{title}  ", "yellow"), (make_printable(backend), "bold"), f": {text}")


def show_errors(complaints: Iterable[str], console: Console) -> None:
    """Print what else makes the run fail, or could not be written, a line each."""
    lines = [Text.assemble(("error  ", "bold red"), make_printable(complaint)) for complaint in complaints]
    _print(console, lines)


def show_untried(count: int, console: Console) -> None:
    """Print how many properties a budget had no time for."""
    text = f"{count:,} more properties: the budget ran out; the next run begins with them"
    _print(console, [Text.assemble(("not tried  ", "yellow"), text)])


def _print(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True, highlight=False, markup=False)
