"""How far the tape is from hand-written NumPy, HIPS autograd and torch: `python -m asv_bench.tools.ratios [--check]`.

Two engines at a time take turns in one process on one thread, as `side_by_side` says: a machine that is slow for a while is
slow for both. The garbage collector is off: the tape leaves no cycles, and what a collection costs depends on what else is alive.
"""

# ruff: noqa: E402 - the thread counts must be set before NumPy is imported
import argparse
import gc
import os
import sys

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[name] = "1"

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from asv_bench.measuring import clock
from asv_bench.workloads import engines
from asv_bench.workloads.programs import Workload, chain, make_workloads_with_hand_gradients

ENGINE_BY_NAME: Mapping[str, Callable[[Workload], engines.GradientFunction]] = {
    "by hand": engines.by_hand,
    "gradspec": engines.gradspec,
    "HIPS autograd": engines.hips,
    "torch eager": engines.torch,
}
DEEP_CHAIN_LENGTH = 1_000_000
MARGIN = 1.5  # what six runs in another hour, on a busier machine, may show; smaller changes are found by costs, not by time
MAX_MICROSECONDS_PER_OP = 10  # the promise is a few microseconds, on a machine left in peace


SAMPLES_PER_RATIO = 1 if clock.IS_QUICK_RUN else 5  # whose spread tells asv a change from noise


def prepare_engines(
    work: Workload, names: Collection[str] = tuple(ENGINE_BY_NAME)
) -> dict[str, engines.GradientFunction]:
    """Those of the engines that are installed, each warmed up and found to have the gradients of the tape."""
    runs = {}
    expected = engines.gradspec(work)()
    for name in names:
        try:
            runs[name] = ENGINE_BY_NAME[name](work)
        except ImportError:
            continue
        for got, g in zip(runs[name](), expected, strict=True):
            assert got.shape == g.shape, (
                f"{work.name}: {name} has a gradient of shape {got.shape}, the tape {g.shape}"
            )
            error = np.max(np.abs(got - g)) / np.max(np.abs(g))
            assert error <= work.rtol, (
                f"{work.name}: {name} is {error:.1e} from the tape; allowed are {work.rtol}"
            )
    return runs


def measure_one_call(run: Callable[[], Any]) -> float:
    """One call, as `timeit` times it: without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        start = perf_counter()
        run()
        return perf_counter() - start
    finally:
        gc.enable()


def measure_ratio_samples(
    run: engines.GradientFunction, reference: engines.GradientFunction, samples: int = SAMPLES_PER_RATIO
) -> list[float]:
    """How many times as long as the second the first takes, several times over.

    Both are called warm, again and again, as a training loop calls its step: value and gradients, with the inputs at hand and
    the parts of the engine in the cache. Each sample is that of `clock.Turns`, by the processor's time.
    """
    return [clock.measure_ratio(run, reference, process_time) for _ in range(samples)]


def measure_deep_chain(ops: int, *shape: int) -> float:
    """Microseconds for each op of a chain of so many, forward and backward."""
    work = make_workloads_with_hand_gradients()[0]
    inputs = tuple(x[0] * np.ones(shape) for x in work.inputs)
    long = replace(work, program=partial(chain, steps=ops // 2), inputs=inputs, cotangent=np.ones(shape))
    return measure_one_call(engines.gradspec(long)) / ops * 1e6


def promise(work: Workload, first: str, second: str) -> tuple[str, Callable[[float], bool]]:
    """What is promised of this ratio, for people, and whether a ratio keeps it, given the margin."""
    seen = {("gradspec", "by hand"): work.over_hand, ("HIPS autograd", "gradspec"): work.hips_over_tape}
    low, high = seen.get((first, second)) or (0.0, np.inf)
    kept = (lambda r: r <= high * MARGIN) if first == "gradspec" else (lambda r: r >= low / MARGIN)
    return (f"{low:g} to {high:g}" if np.isfinite(high) else ""), kept


def main() -> int:
    """Print the table; 1 where a promise is broken and --check is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--check",
        action="store_true",
        help=f"exit with status 1 where a promise is broken by more than {MARGIN:g} times",
    )
    parser.add_argument(
        "--samples", type=int, default=SAMPLES_PER_RATIO, help="of which each figure is the median"
    )
    parser.add_argument("--quick", action="store_true", help="one sample, and a chain a tenth as long")
    options = parser.parse_args()
    samples, depth = (1, DEEP_CHAIN_LENGTH // 10) if options.quick else (options.samples, DEEP_CHAIN_LENGTH)
    table = Table(
        "work", *ENGINE_BY_NAME, "promised", "HIPS / gradspec", "promised", title="time, by hand = 1"
    )
    broken = []

    def mark_if_broken(shown: str, is_kept: bool, what: str) -> str:
        if not is_kept:
            broken.append(what)
        return shown if is_kept else f"[red]{shown}[/red]"

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
        cells["by hand"] = f"{min(measure_one_call(runs['by hand']) for _ in range(5)) * 1e3:.2f} ms"
        at_most, keeps_to_hand = promise(work, "gradspec", "by hand")
        to_hand = measure_median_ratio("gradspec", "by hand")
        cells["gradspec"] = mark_if_broken(
            f"{to_hand:.2f}", keeps_to_hand(to_hand), f"{work.name}: {to_hand:.2f}, not {at_most}"
        )
        at_least, keeps_ahead = promise(work, "HIPS autograd", "gradspec")
        ahead = ""
        if "HIPS autograd" in runs:
            lead = measure_median_ratio("HIPS autograd", "gradspec")
            what = f"{work.name}, HIPS autograd over gradspec: {lead:.1f}, not {at_least}"
            ahead = mark_if_broken(f"{lead:.1f}", keeps_ahead(lead), what)
        table.add_row(work.name, *(cells.get(name, "") for name in ENGINE_BY_NAME), at_most, ahead, at_least)
    table.caption = f"warm, two engines in turns, garbage collector off; promised is what six runs showed, --check allows {MARGIN:g} times that"
    for shape in ((8,), ()):
        us = measure_deep_chain(depth, *shape)
        name = f"chain of {depth:,} ops, {'8' if shape else '0-d'} float64"
        table.add_row(
            name,
            "",
            mark_if_broken(f"{us:.1f} us an op", us <= MAX_MICROSECONDS_PER_OP, name),
            "",
            "",
            f"<= {MAX_MICROSECONDS_PER_OP} us",
        )
    Console(width=max(Console().width, 130)).print(table)
    for what in broken:
        print(f"promise broken: {what}", file=sys.stderr)
    return 1 if broken and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
