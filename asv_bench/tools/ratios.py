"""The tape's time beside hand-written NumPy, HIPS autograd and torch: `python -m asv_bench.tools.ratios`.

Two engines at a time take turns in one process on one thread (see `undisturbed_time.SideBySideTiming`): a
machine that is slow for a while is slow for both. The garbage collector is off: the tape leaves no cycles,
and what a collection costs depends on what else is alive. What is promised stands in `workloads.programs`.
"""

import os

from gradspec.timing.one_thread import ONE_THREAD

# Before the imports below: NumPy's libraries read these variables when they are loaded.
os.environ |= ONE_THREAD

import argparse
import gc
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from asv_bench.measuring.undisturbed_time import SAMPLES_PER_RATIO, measure_ratio_samples
from asv_bench.workloads import engines
from asv_bench.workloads.engines import ENGINE_BY_NAME, prepare_engines
from asv_bench.workloads.programs import Workload, chain, make_workloads_with_hand_gradients

DEEP_CHAIN_LENGTH = 1_000_000
# What six runs in another hour, on a busier machine, may show.
# Costs find smaller changes; times do not.
MARGIN = 1.5
# The promise is a few microseconds, on an otherwise idle machine.
MAX_MICROSECONDS_PER_OP = 10


def measure_seconds_without_gc(run: Callable[[], Any]) -> float:
    """Return the seconds of one call, without the garbage collector, as `timeit` measures it."""
    gc.collect()
    gc.disable()
    try:
        start = perf_counter()
        run()
        return perf_counter() - start
    finally:
        gc.enable()


def measure_chain_us_per_op(ops: int, *shape: int) -> float:
    """Return the microseconds for each op of a chain of `ops` ops, forward and backward."""
    work = next(work for work in make_workloads_with_hand_gradients() if work.key == "chain")
    inputs = tuple(x[0] * np.ones(shape) for x in work.inputs)
    long = replace(work, program=partial(chain, steps=ops // 2), inputs=inputs, cotangent=np.ones(shape))
    return measure_seconds_without_gc(engines.gradspec(long)) / ops * 1e6


def describe_promise(work: Workload, first: str, second: str) -> tuple[str, Callable[[float], bool]]:
    """Return what is promised of this ratio, for people, and whether a ratio keeps it, given the margin."""
    ranges = {("gradspec", "by hand"): work.over_hand, ("HIPS autograd", "gradspec"): work.hips_over_tape}
    low, high = ranges.get((first, second)) or (0.0, np.inf)
    is_kept = (lambda r: r <= high * MARGIN) if first == "gradspec" else (lambda r: r >= low / MARGIN)
    return (f"{low:g} to {high:g}" if np.isfinite(high) else ""), is_kept


def main() -> int:
    """Print the table; return 1 where a promise is broken and --check is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    check_help = f"exit with status 1 where a promise is broken by more than {MARGIN:g} times"
    parser.add_argument("--check", action="store_true", help=check_help)
    samples_help = "samples of each ratio, whose median is shown (default: %(default)s)"
    parser.add_argument("--samples", type=int, default=SAMPLES_PER_RATIO, help=samples_help)
    parser.add_argument("--quick", action="store_true", help="one sample, and a chain a tenth as long")
    options = parser.parse_args()
    samples, depth = (1, DEEP_CHAIN_LENGTH // 10) if options.quick else (options.samples, DEEP_CHAIN_LENGTH)
    columns = ("work", *ENGINE_BY_NAME, "promised", "HIPS / gradspec", "promised")
    table = Table(*columns, title="time, by hand = 1")
    broken_promises = []

    def mark_if_broken(cell: str, is_kept: bool, message: str) -> str:
        if not is_kept:
            broken_promises.append(message)
        return cell if is_kept else f"[red]{cell}[/red]"

    for work in make_workloads_with_hand_gradients():
        runs = prepare_engines(work)

        def measure_median_ratio(
            first: str, second: str, runs: Mapping[str, engines.GradientFunction] = runs
        ) -> float:
            return median(measure_ratio_samples(runs[first], runs[second], samples))

        cells = {
            name: f"{measure_median_ratio(name, 'by hand'):.2f}"
            for name in runs
            if name not in ("by hand", "gradspec")
        }
        cells["by hand"] = (
            f"{min(measure_seconds_without_gc(runs['by hand']) for _ in range(5)) * 1e3:.2f} ms"
        )
        at_most, is_close_to_hand = describe_promise(work, "gradspec", "by hand")
        to_hand = measure_median_ratio("gradspec", "by hand")
        message = f"{work.name}: {to_hand:.2f}, not {at_most}"
        cells["gradspec"] = mark_if_broken(f"{to_hand:.2f}", is_close_to_hand(to_hand), message)
        at_least, is_ahead = describe_promise(work, "HIPS autograd", "gradspec")
        lead_cell = ""
        if "HIPS autograd" in runs:
            lead = measure_median_ratio("HIPS autograd", "gradspec")
            message = f"{work.name}, HIPS autograd over gradspec: {lead:.1f}, not {at_least}"
            lead_cell = mark_if_broken(f"{lead:.1f}", is_ahead(lead), message)
        engine_cells = [cells.get(name, "") for name in ENGINE_BY_NAME]
        table.add_row(work.name, *engine_cells, at_most, lead_cell, at_least)
    table.caption = (
        "warm, two engines in turns, garbage collector off; promised is what six runs showed, "
        f"--check allows {MARGIN:g} times that"
    )
    for shape in ((8,), ()):
        us = measure_chain_us_per_op(depth, *shape)
        name = f"chain of {depth:,} ops, {'8' if shape else '0-d'} float64"
        cell = mark_if_broken(f"{us:.1f} us an op", us <= MAX_MICROSECONDS_PER_OP, name)
        table.add_row(name, "", cell, "", "", f"<= {MAX_MICROSECONDS_PER_OP} us")
    Console(width=max(Console().width, 130)).print(table)
    for message in broken_promises:
        print(f"promise broken: {message}", file=sys.stderr)
    return 1 if broken_promises and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
