"""The command: measures how many planted faults the properties detect, and their false alarms."""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gradspec.properties.running.options import select_allowed_names
from gradspec.reference import OPS
from tests.faults import measurement, tolerance_curves
from tests.faults.fault import Fault
from tests.faults.registry import faults, right_variants
from tests.faults.right import Variant
from tests.faults.summary import save_json, summarize
from tests.faults.tables import print_curves, print_summary

DEFAULT_SEED_COUNT = 5
WIDTH_WITHOUT_TERMINAL = 140  # columns

# Cases of unmodified backends. Three false alarms in so many would show in one run of the properties in ten.
DEFAULT_CASES_FOR_ALARMS = 200_000


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    several: Any = {"action": "append", "default": []}
    default_cases = f"{DEFAULT_CASES_FOR_ALARMS:,}, or the share of --op"
    parser.add_argument("--op", **several, help='this op only, or "programs" for engines; repeatable')
    parser.add_argument("--kind", **several, help="faults and variants of this kind only; repeatable")
    parser.add_argument(
        "--seeds",
        type=int,
        default=DEFAULT_SEED_COUNT,
        help="seeds to try each fault with (default: %(default)s)",
    )
    parser.add_argument(
        "--first-seed", type=int, default=1, help="the first of these seeds (default: %(default)s)"
    )
    parser.add_argument(
        "--backend", **several, help="count the false alarms on this one (default: numpy, torch); repeatable"
    )
    parser.add_argument(
        "--cases",
        type=int,
        help=f"cases to judge on these backends (default: {default_cases}; 0: none)",
    )
    parser.add_argument(
        "--processes", type=int, default=2, help="processes that work at once (default: %(default)s)"
    )
    parser.add_argument(
        "--json", type=Path, default=Path("sensitivity.json"), help="the file to save (default: %(default)s)"
    )
    parser.add_argument(
        "--curve",
        action="store_true",
        help="instead, count detected faults and false alarms at other tolerances, with the first seed",
    )
    return parser.parse_args()


def main() -> int:
    """Measure, print and save; return 1 if there was a false alarm, else 0."""
    options = parse_arguments()
    console = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)
    backends = options.backend or ["numpy", "torch"]
    faults_by_op, variants_by_op = _select(options, faults()), _select(options, right_variants())
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    cases = (
        DEFAULT_CASES_FOR_ALARMS * len(faults_by_op) // (1 + len(OPS))
        if options.cases is None
        else options.cases
    )
    start = time.monotonic()
    whole, curves = measurement.Measurement(), list[list[tolerance_curves.CurvePoint]]()
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        measurement.start_workers(options.processes) as pool,
    ):
        task = progress.add_task("starting")
        report = lambda text: progress.update(task, description=text)
        if options.curve:
            op_tasks = [
                measurement.OpTask(op, seeds[0], names, [*backends, *variants_by_op[op]])
                for op, names in faults_by_op.items()
            ]
            curves = tolerance_curves.measure_curves(pool, op_tasks, report)
        else:
            whole = measurement.measure_all(
                pool, faults_by_op, variants_by_op, backends, seeds, cases, report
            )
    if options.curve:
        save_json(tolerance_curves.as_json(curves), options.json)
        print_curves(curves, console)
        return 0
    summary = summarize(whole, time.monotonic() - start, options.processes)
    save_json(summary.as_json(), options.json)
    print_summary(summary, console)
    return 1 if summary.alarms else 0


def _select(options: argparse.Namespace, known: Mapping[str, Fault | Variant]) -> dict[str, list[str]]:
    """Return the names of the faults or variants that the options select, by op."""
    all_kinds = [*(x.kind for x in faults().values()), *(x.kind for x in right_variants().values())]
    kinds = select_allowed_names("kind", options.kind, dict.fromkeys(all_kinds))
    return {
        op: [name for name, x in known.items() if x.op == op and x.kind in kinds]
        for op in select_allowed_names("op", options.op, ["programs", *OPS])
    }


if __name__ == "__main__":
    sys.exit(main())
