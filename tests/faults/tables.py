"""The measurement as tables and sentences for people."""

import statistics
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from gradspec.properties.running.tally import to_sentence
from gradspec.reference import OPS
from tests.faults.equivalent import EQUIVALENT
from tests.faults.summary import MIN_SHARE_OF_SEEDS, FaultResultOverSeeds, Summary, count_judged_cases
from tests.faults.tolerance_curves import CurvePoint, Tolerance


def print_summary(summary: Summary, console: Console) -> None:
    """Print the tables by op and property, the survivors, the false alarms, and the summary in sentences."""
    if summary.fault_results:
        console.print(_make_table_by_op(summary.fault_results))
        console.print(_make_table_by_property(summary))
        _print_survivors(summary, console)
    for result in summary.alarms:
        trial = result.trial
        op = "" if trial.backend.startswith(trial.op) else f": {trial.op}"
        console.print(f"[bold red]false alarm[/]: {trial.backend}{op}: {to_sentence(trial.property)}")
        console.print(result.alarm, markup=False)
    for line in summarize_in_sentences(summary):
        console.print(line, highlight=False)


def print_curves(curves: Sequence[Sequence[CurvePoint]], console: Console) -> None:
    """Print how many faults are detected, and how many false alarms there are, at other tolerances."""
    for title, points in zip(("FACTOR", "K, the jittered copies"), curves, strict=True):
        table = Table(title=f"By {title}", pad_edge=False, title_justify="left")
        counts = "faults found", "of", "found", "false alarms", "of variants", "in runs"
        for column in ("FACTOR", "K", *counts):
            table.add_column(column, justify="right")
        for p in points:
            detected = p.faults - len(p.survivors)
            rate = f"{detected / p.faults:.2%}" if p.faults else ""
            row = detected, p.faults, rate, len(p.alarms), p.variant_alarm_count, p.runs
            numbers = f"{p.tolerance.factor:g}", str(p.tolerance.copies)
            style = "bold" if p.tolerance == Tolerance() else ""  # the one in use
            table.add_row(*numbers, *map(str, row), style=style)
        console.print(table)


def summarize_in_sentences(summary: Summary) -> list[str]:
    """Return the measurement in a few sentences."""
    sentences = []
    if summary.fault_results:
        detected, n = sum(f.is_detected for f in summary.fault_results), len(summary.fault_results)
        rates = ", ".join(f"{summary.detection_rate(seed):.2%}" for seed in summary.seeds)
        ops = len(OPS.keys() & {f.fault.op for f in summary.fault_results})
        engines = " and of engines" if any(f.fault.op not in OPS for f in summary.fault_results) else ""
        rate = f"{detected:,} ({detected / n:.2%}) found"
        equivalent = f"{len(EQUIVALENT)} transformations make no difference to some op"
        sentences += [
            f"{n:,} faults of {ops} ops{engines}; {rate} with at least {MIN_SHARE_OF_SEEDS:.0%} of the seeds",
            f"found by seed: {rates}",
            f"{equivalent} and are left out (faults/equivalent.py)",
        ]
    variant_count = len({r.trial.backend for r in summary.variant_results})
    for whose, results in (
        ("unmodified backends", summary.backend_results),
        (f"{variant_count} right variants", summary.variant_results),
    ):
        if results:
            max_share = max((s for r in results if (s := r.max_error_share) < float("inf")), default=0)
            sentences.append(
                f"{count_judged_cases(results):,} cases of {whose} judged: "
                f"{sum(r.alarm is not None for r in results)} false alarms; "
                f"the largest error was {max_share:.2f} of what is allowed"
            )
    times = f"{summary.seconds:.0f} s in {summary.processes} processes"
    return [*sentences, f"{times}, {summary.processor_seconds:.0f} s of the processor"]


def _make_table_by_op(results: list[FaultResultOverSeeds]) -> Table:
    kinds = list(dict.fromkeys(f.fault.kind for f in results))
    title = "Faults found / faults, by op and kind"
    table = Table(title=title, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("op")
    for kind in [*kinds, "all"]:
        table.add_column(kind, justify="right")
    table.add_column("median\nexamples", justify="right")

    def add_row(name: str, faults: list[FaultResultOverSeeds]) -> None:
        cells = [_format_cell([f for f in faults if f.fault.kind == kind]) for kind in kinds]
        table.add_row(name, *cells, _format_cell(faults), _format_median(faults))

    for op in dict.fromkeys(f.fault.op for f in results):
        add_row(op, [f for f in results if f.fault.op == op])
    table.add_section()
    add_row("all", results)
    return table


def _make_table_by_property(summary: Summary) -> Table:
    title = "The property that found them, the likely one being tried first"
    table = Table(title=title, pad_edge=False, title_justify="left")
    table.add_column("property")
    for column in ("faults", "median examples"):
        table.add_column(column, justify="right")
    examples: dict[str, list[int]] = {}
    for outcome in (o for f in summary.fault_results for o in f.outcomes):
        if outcome.detection:
            examples.setdefault(outcome.detection.property, []).append(outcome.detection.example)
    counters = (f.detections_by_property for f in summary.fault_results)
    counts = Counter(counter.most_common(1)[0][0] for counter in counters if counter)
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
        seeds = f"{f.detection_count} of {len(f.outcomes)} seeds"
        table.add_row(f.fault.op, f.fault.name, seeds, style="" if f.is_detected else "red")
    console.print(table)


def _format_cell(results: list[FaultResultOverSeeds]) -> str:
    if not results:
        return ""
    detected = sum(f.is_detected for f in results)
    text = f"{detected}/{len(results)}"
    return text if detected == len(results) else f"[bold red]{text}[/]"


def _format_median(results: list[FaultResultOverSeeds]) -> str:
    return f"{statistics.median(f.median_examples for f in results):g}"
