"""The measurement as tables for people."""

import statistics
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from gradspec.properties.running.matrix import to_sentence
from gradspec.reference import OPS
from tests.faults.equivalent import EQUIVALENT
from tests.faults.summary import MIN_SHARE_OF_SEEDS, FaultResult, Summary, count_judged_cases
from tests.faults.tolerance_curves import CurvePoint, Tolerance


def print_summary(summary: Summary, console: Console) -> None:
    """Everything: op by kind, by property, survivors, false alarms, and the sum of it."""
    if summary.fault_results:
        console.print(_make_table_by_op(summary.fault_results))
        console.print(_make_table_by_property(summary))
        _print_survivors(summary, console)
    for verdict in summary.alarms:
        unit = verdict.trial
        console.print(
            f"[bold red]false alarm[/]: {unit.backend}{'' if unit.backend.startswith(unit.op) else f': {unit.op}'}: {to_sentence(unit.property)}"
        )
        console.print(verdict.alarm, markup=False)
    for line in summarize_in_sentences(summary):
        console.print(line, highlight=False)


def print_curves(curves: Sequence[Sequence[CurvePoint]], console: Console) -> None:
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
            chosen, killed = p.tolerance == Tolerance(), p.faults - len(p.survivors)
            rate = f"{killed / p.faults:.2%}" if p.faults else ""
            row = killed, p.faults, rate, len(p.alarms), p.variant_alarm_count, p.runs
            table.add_row(
                f"{p.tolerance.factor:g}",
                str(p.tolerance.copies),
                *map(str, row),
                style="bold" if chosen else "",
            )
        console.print(table)


def summarize_in_sentences(summary: Summary) -> list[str]:
    """The measurement in a few sentences."""
    said = []
    if summary.fault_results:
        found, n = sum(f.is_detected for f in summary.fault_results), len(summary.fault_results)
        rates = ", ".join(f"{summary.detection_rate(seed):.2%}" for seed in summary.seeds)
        ops = len(OPS.keys() & {f.fault.op for f in summary.fault_results})
        engines = " and of engines" if any(f.fault.op not in OPS for f in summary.fault_results) else ""
        said += [
            f"{n:,} faults of {ops} ops{engines}; {found:,} ({found / n:.2%}) found with at least {MIN_SHARE_OF_SEEDS:.0%} of the seeds",
            f"found by seed: {rates}",
            f"{len(EQUIVALENT)} transformations make no difference to some op and are left out (faults/equivalent.py)",
        ]
    for whose, verdicts in (
        ("unmodified backends", summary.backend_results),
        (
            f"{len({v.trial.backend for v in summary.variant_results})} right variants",
            summary.variant_results,
        ),
    ):
        if verdicts:
            near = max((v.max_error_share for v in verdicts if v.max_error_share < float("inf")), default=0)
            said.append(
                f"{count_judged_cases(verdicts):,} cases of {whose} judged: {sum(v.alarm is not None for v in verdicts)} false alarms; "
                f"the largest error was {near:.2f} of what is allowed"
            )
    return [
        *said,
        f"{summary.seconds:.0f} s in {summary.processes} processes, {summary.processor_seconds:.0f} s of the processor",
    ]


def _make_table_by_op(results: list[FaultResult]) -> Table:
    kinds = list(dict.fromkeys(f.fault.kind for f in results))
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
    for op in dict.fromkeys(f.fault.op for f in results):
        of_op = [f for f in results if f.fault.op == op]
        table.add_row(
            op,
            *(_format_cell([f for f in of_op if f.fault.kind == k]) for k in kinds),
            _format_cell(of_op),
            _format_median(of_op),
        )
    table.add_section()
    table.add_row(
        "all",
        *(_format_cell([f for f in results if f.fault.kind == k]) for k in kinds),
        _format_cell(results),
        _format_median(results),
    )
    return table


def _make_table_by_property(summary: Summary) -> Table:
    table = Table(
        title="What found them first, the likely property being tried first",
        pad_edge=False,
        title_justify="left",
    )
    table.add_column("property")
    for column in ("faults", "median examples"):
        table.add_column(column, justify="right")
    examples: dict[str, list[int]] = {}
    for outcome in (o for f in summary.fault_results for o in f.outcomes):
        if outcome.detection:
            examples.setdefault(outcome.detection.property, []).append(outcome.detection.example)
    counts = Counter(
        f.detections_by_property.most_common(1)[0][0]
        for f in summary.fault_results
        if f.detections_by_property
    )
    for name, count in counts.most_common():
        table.add_row(to_sentence(name), str(count), f"{statistics.median(examples[name]):g}")
    return table


def _print_survivors(summary: Summary, console: Console) -> None:
    if not summary.survivors:
        return
    table = Table(title="Not found with every seed", pad_edge=False, title_justify="left")
    for column in ("op", "fault", "found with"):
        table.add_column(column)
    for f in summary.survivors:
        table.add_row(
            f.fault.op,
            f.fault.name,
            f"{f.detection_count} of {len(f.outcomes)} seeds",
            style="" if f.is_detected else "red",
        )
    console.print(table)


def _format_cell(results: list[FaultResult]) -> str:
    if not results:
        return ""
    killed = sum(f.is_detected for f in results)
    text = f"{killed}/{len(results)}"
    return text if killed == len(results) else f"[bold red]{text}[/]"


def _format_median(results: list[FaultResult]) -> str:
    return f"{statistics.median(f.median_examples for f in results):g}"
