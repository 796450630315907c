"""The measurement as tables for people."""

import statistics
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from faults.curve import Point, Setting
from faults.equivalent import EQUIVALENT
from faults.summary import ENOUGH, Found, Summary, judged
from gradspec.properties.running.matrix import sentence
from gradspec.reference import OPS


def show(summary: Summary, console: Console) -> None:
    """Everything: op by kind, by property, survivors, false alarms, and the sum of it."""
    if summary.found:
        console.print(_by_op(summary.found))
        console.print(_by_property(summary))
        _survivors(summary, console)
    for verdict in summary.alarms:
        unit = verdict.unit
        console.print(
            f"[bold red]false alarm[/]: {unit.backend}{'' if unit.backend.startswith(unit.op) else f': {unit.op}'}: {sentence(unit.property)}"
        )
        console.print(verdict.alarm, markup=False)
    for line in lines(summary):
        console.print(line, highlight=False)


def show_curves(curves: Sequence[Sequence[Point]], console: Console) -> None:
    """What comes of other tolerances."""
    for title, points in zip(("FACTOR", "K, the jittered copies"), curves, strict=True):
        table = Table(title=f"By {title}", pad_edge=False, title_justify="left")
        for column in (
            "FACTOR",
            "K",
            "faults found",
            "of",
            "found",
            "false alarms",
            "of variants",
            "in runs",
        ):
            table.add_column(column, justify="right")
        for p in points:
            chosen, killed = p.setting == Setting(), p.faults - len(p.survivors)
            rate = f"{killed / p.faults:.2%}" if p.faults else ""
            row = killed, p.faults, rate, len(p.alarms), p.of_variants, p.runs
            table.add_row(
                f"{p.setting.factor:g}", str(p.setting.copies), *map(str, row), style="bold" if chosen else ""
            )
        console.print(table)


def lines(summary: Summary) -> list[str]:
    """The measurement in a few sentences."""
    said = []
    if summary.found:
        found, n = sum(f.is_found for f in summary.found), len(summary.found)
        rates = ", ".join(f"{summary.rate(seed):.2%}" for seed in summary.seeds)
        ops = len(OPS.keys() & {f.fault.op for f in summary.found})
        engines = " and of engines" if any(f.fault.op not in OPS for f in summary.found) else ""
        said += [
            f"{n:,} faults of {ops} ops{engines}; {found:,} ({found / n:.2%}) found with at least {ENOUGH:.0%} of the seeds",
            f"found by seed: {rates}",
            f"{len(EQUIVALENT)} transformations make no difference to some op and are left out (faults/equivalent.py)",
        ]
    for whose, verdicts in (
        ("unmodified backends", summary.of_backends),
        (f"{len({v.unit.backend for v in summary.of_variants})} right variants", summary.of_variants),
    ):
        if verdicts:
            near = max((v.worst for v in verdicts if v.worst < float("inf")), default=0)
            said.append(
                f"{judged(verdicts):,} cases of {whose} judged: {sum(v.alarm is not None for v in verdicts)} false alarms; "
                f"the largest error was {near:.2f} of what is allowed"
            )
    return [
        *said,
        f"{summary.seconds:.0f} s in {summary.processes} processes, {summary.work:.0f} s of the processor",
    ]


def _by_op(found: list[Found]) -> Table:
    kinds = list(dict.fromkeys(f.fault.kind for f in found))
    table = Table(
        title="Faults found / faults, by op and kind",
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title_justify="left",
    )
    table.add_column("op")
    for kind in [*kinds, "all"]:
        table.add_column(kind, justify="right")
    table.add_column("median\nexamples", justify="right")
    for op in dict.fromkeys(f.fault.op for f in found):
        of_op = [f for f in found if f.fault.op == op]
        table.add_row(
            op, *(_cell([f for f in of_op if f.fault.kind == k]) for k in kinds), _cell(of_op), _median(of_op)
        )
    table.add_section()
    table.add_row(
        "all", *(_cell([f for f in found if f.fault.kind == k]) for k in kinds), _cell(found), _median(found)
    )
    return table


def _by_property(summary: Summary) -> Table:
    table = Table(
        title="What found them first, the likely property being tried first",
        pad_edge=False,
        title_justify="left",
    )
    table.add_column("property")
    for column in ("faults", "median examples"):
        table.add_column(column, justify="right")
    examples: dict[str, list[int]] = {}
    for outcome in (o for f in summary.found for o in f.outcomes):
        if outcome.killed:
            examples.setdefault(outcome.killed.by, []).append(outcome.killed.examples)
    counts = Counter(f.by.most_common(1)[0][0] for f in summary.found if f.by)
    for name, count in counts.most_common():
        table.add_row(sentence(name), str(count), f"{statistics.median(examples[name]):g}")
    return table


def _survivors(summary: Summary, console: Console) -> None:
    if not summary.survivors:
        return
    table = Table(title="Not found with every seed", pad_edge=False, title_justify="left")
    for column in ("op", "fault", "found with"):
        table.add_column(column)
    for f in summary.survivors:
        table.add_row(
            f.fault.op,
            f.fault.name,
            f"{f.kills} of {len(f.outcomes)} seeds",
            style="" if f.is_found else "red",
        )
    console.print(table)


def _cell(found: list[Found]) -> str:
    if not found:
        return ""
    killed = sum(f.is_found for f in found)
    text = f"{killed}/{len(found)}"
    return text if killed == len(found) else f"[bold red]{text}[/]"


def _median(found: list[Found]) -> str:
    return f"{statistics.median(f.examples for f in found):g}"
