"""How far the tape is from hand-written NumPy, HIPS autograd and torch: `python -m asv_bench.ratios [--check]`.

All engines take turns in one process on one thread, and each figure is the median over the rounds of a ratio within a
round: a machine that is slow for a while is slow for all of them. The garbage collector is off while a call is timed and
runs between calls, as in `timeit`: the tape leaves no cycles, and what a collection costs depends on what else is alive.
"""

# ruff: noqa: E402 - the thread counts must be set before NumPy is imported
import argparse
import gc
import os
import sys

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[name] = "1"

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from asv_bench import engines
from asv_bench.workloads import Workload, chain, workloads

ENGINES: Mapping[str, Callable[[Workload], engines.Run]] = {
    "by hand": engines.by_hand,
    "gradspec": engines.gradspec,
    "HIPS autograd": engines.hips,
    "torch eager": engines.torch,
}
DEEP = 1_000_000
US_AN_OP = 10  # the promise is a few microseconds, on a machine left in peace


def prepared(work: Workload) -> dict[str, engines.Run]:
    """The engines that are installed, each warmed up and found to have the gradients of the tape."""
    runs = {}
    expected = engines.gradspec(work)()
    for name, engine in ENGINES.items():
        try:
            runs[name] = engine(work)
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


def seconds(run: Callable[[], Any]) -> float:
    """One call, as `timeit` times it: without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        start = perf_counter()
        run()
        return perf_counter() - start
    finally:
        gc.enable()


def times(runs: Mapping[str, engines.Run], rounds: int) -> dict[str, list[float]]:
    """The seconds of every engine in every round; each round starts with another one."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            found[name].append(seconds(runs[name]))
    return found


def ratio(above: list[float], below: list[float]) -> float:
    return median(a / b for a, b in zip(above, below, strict=True))


def deep(*shape: int) -> float:
    """Microseconds for each op of a chain of a million, forward and backward."""
    work = workloads()[0]
    inputs = tuple(x[0] * np.ones(shape) for x in work.inputs)
    long = replace(work, program=partial(chain, steps=DEEP // 2), inputs=inputs, cotangent=np.ones(shape))
    return seconds(engines.gradspec(long)) / DEEP * 1e6


def main() -> int:
    """Print the table; 1 where a promise is broken and --check is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="exit with status 1 where a promised bound is broken"
    )
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    table = Table("work", *ENGINES, "promised", "HIPS / gradspec", "promised", title="time, by hand = 1")
    broken = []

    def judged(shown: str, kept: bool, what: str) -> str:
        if not kept:
            broken.append(what)
        return shown if kept else f"[red]{shown}[/red]"

    for work in workloads():
        found = times(prepared(work), options.rounds)
        to_hand = {name: ratio(t, found["by hand"]) for name, t in found.items()}
        cells = {name: f"{r:.2f}" for name, r in to_hand.items()}
        cells["by hand"] = f"{median(found['by hand']) * 1e3:.2f} ms"
        kept = work.at_most is None or to_hand["gradspec"] <= work.at_most
        cells["gradspec"] = judged(cells["gradspec"], kept, work.name)
        lead = ratio(found["HIPS autograd"], found["gradspec"]) if "HIPS autograd" in found else None
        ahead = "" if lead is None else f"{lead:.1f}"
        if lead is not None and work.over_hips is not None:
            ahead = judged(ahead, lead >= work.over_hips, f"{work.name}, against HIPS autograd")
        table.add_row(
            work.name,
            *(cells.get(name, "") for name in ENGINES),
            f"<= {work.at_most}" if work.at_most else "",
            ahead,
            f">= {work.over_hips}" if work.over_hips else "",
        )
    table.caption = "garbage collector off while timing, run before each call"
    for shape in ((8,), ()):
        us = deep(*shape)
        name = f"chain of {DEEP:,} ops, {'8' if shape else '0-d'} float64"
        table.add_row(
            name, "", judged(f"{us:.1f} us an op", us <= US_AN_OP, name), "", "", f"<= {US_AN_OP} us"
        )
    Console(width=max(Console().width, 130)).print(table)
    for what in broken:
        print(f"promise broken: {what}", file=sys.stderr)
    return 1 if broken and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
