"""The command: measures what the properties find, and whether they find fault with what is right."""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gradspec.properties.running.options import choose_names
from gradspec.reference import OPS
from tests.faults import measurement, tolerance_curves
from tests.faults.fault import Fault
from tests.faults.registry import faults, right_variants
from tests.faults.right import Variant
from tests.faults.summary import save_json, summarize
from tests.faults.tables import print_curves, print_summary

DEFAULT_SEEDS = 5
WIDTH_WITHOUT_TERMINAL = 140  # of what is written to no terminal
DEFAULT_CASES = 200_000  # cases of unmodified backends: three false alarms in so many would show at one in ten runs of the properties


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    several: Any = {"action": "append", "default": []}
    parser.add_argument("--op", **several, help="this op only, or programs, which engines run; repeatable")
    parser.add_argument("--kind", **several, help="faults and variants of this kind only; repeatable")
    parser.add_argument(
        "--seeds",
        type=int,
        default=DEFAULT_SEEDS,
        help="how often each fault is tried (default: %(default)s)",
    )
    parser.add_argument(
        "--first-seed", type=int, default=1, help="the others follow it (default: %(default)s)"
    )
    parser.add_argument(
        "--backend", **several, help="whose false alarms are counted (default: numpy, torch); repeatable"
    )
    parser.add_argument(
        "--cases",
        type=int,
        help=f"how many cases of theirs (default: {DEFAULT_CASES:,}, of ops chosen their share; 0: none)",
    )
    parser.add_argument(
        "--processes", type=int, default=2, help="how many work at once (default: %(default)s)"
    )
    parser.add_argument(
        "--json", type=Path, default=Path("sensitivity.json"), help="where it is saved (default: %(default)s)"
    )
    parser.add_argument(
        "--curve",
        action="store_true",
        help="instead, what would be found and found fault with at other tolerances, with the first seed",
    )
    return parser.parse_args()


def main() -> int:
    """Measure, show and save; 1 if something right was found fault with."""
    asked = parse_arguments()
    console = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)
    backends = asked.backend or ["numpy", "torch"]
    wrong, right = _select(asked, faults()), _select(asked, right_variants())
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    cases = DEFAULT_CASES * len(wrong) // (1 + len(OPS)) if asked.cases is None else asked.cases
    start = time.monotonic()
    whole, curves = measurement.Measurement(), list[list[tolerance_curves.CurvePoint]]()
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        measurement.start_workers(asked.processes) as pool,
    ):
        task = progress.add_task("starting")
        report = lambda text: progress.update(task, description=text)
        if asked.curve:
            pieces = [measurement.OpTask(op, seeds[0], wrong[op], [*backends, *right[op]]) for op in wrong]
            curves = tolerance_curves.measure_curves(pool, pieces, report)
        else:
            whole = measurement.measure_all(pool, wrong, right, backends, seeds, cases, report)
    if asked.curve:
        save_json(tolerance_curves.as_json(curves), asked.json)
        print_curves(curves, console)
        return 0
    summary = summarize(whole, time.monotonic() - start, asked.processes)
    save_json(summary.as_json(), asked.json)
    print_summary(summary, console)
    return 1 if summary.alarms else 0


def _select(options: argparse.Namespace, known: Mapping[str, Fault | Variant]) -> dict[str, list[str]]:
    """Those that are asked for, by op."""
    there_are = [*(x.kind for x in faults().values()), *(x.kind for x in right_variants().values())]
    kinds = choose_names("kind", options.kind, dict.fromkeys(there_are))
    return {
        op: [name for name, x in known.items() if x.op == op and x.kind in kinds]
        for op in choose_names("op", options.op, ["programs", *OPS])
    }


if __name__ == "__main__":
    sys.exit(main())
