"""Times of the CuPy backend beside torch eager and torch.compile: `python -m asv_bench.tools.on_gpu`.

Each figure is the median of many calls, timed by CUDA events. The inputs change from call to call, so that
none is still in the cache. The share of the copy bandwidth is the time that the program's least traffic would
take at the speed of a plain copy in the same run, over the time that the program took. A program is marked as
repeatable where a second run gives the same bits.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import count
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from asv_bench.workloads.gpu_programs import GpuProgram, make_gpu_programs
from gradspec.timing.clocks import EVENT_CLOCKS
from gradspec.timing.turns import Clock

# Bytes of inputs before one is used again: more than the L2 cache of a GPU.
MIN_BYTES_BEFORE_REUSE = 256 * 2**20
TIMED_CALLS = 50
WARM_UP_CALLS = 5  # in which kernels are compiled and the allocators find their blocks
TABLE_HEADINGS = (
    "work",
    "cupy, us",
    "torch, us",
    "compiled, us",
    "torch / cupy",
    "goal",
    "of copy",
    "repeatable",
)


def measure_median_ms(runs: Sequence[Callable[[], Any]], clock: Clock) -> float:
    """Return the median time of many calls in milliseconds.

    Args:
        runs: calls on one set of inputs each, taken in turn.
        clock: reads the time on the device; nothing waits before the last call.
    """
    turn = count()
    for _ in range(max(WARM_UP_CALLS, len(runs))):
        runs[next(turn) % len(runs)]()
    pairs = []
    for _ in range(TIMED_CALLS):
        start = clock()
        runs[next(turn) % len(runs)]()
        pairs.append((start, clock()))
    return median(float(end - start) * 1e3 for start, end in pairs)


def measure_cupy_ms(runs: Sequence[Callable[[], Any]]) -> float:
    import cupy

    return measure_median_ms(runs, EVENT_CLOCKS["cupy"](cupy))


def measure_torch_ms(runs: Sequence[Callable[[], Any]]) -> float:
    import torch

    return measure_median_ms(runs, EVENT_CLOCKS["torch"](torch))


def measure_memory_pass_ms(dtype: str, m: int, n: int, set_count: int) -> float:
    """Return the milliseconds for one pass over the table: half of what a copy takes."""
    import cupy

    nbytes = m * n * (4 if dtype == "float32" else 2)
    pairs = [cupy.zeros((2, nbytes), "uint8") for _ in range(set_count)]
    return measure_cupy_ms([lambda p=p: cupy.copyto(p[0], p[1]) for p in pairs]) / 2  # type: ignore[misc]


def is_repeatable(run: Callable[[], Any]) -> bool:
    """Return whether two runs on the same inputs give the same bits."""
    import cupy

    def run_for_bits() -> list[Any]:
        result = run()
        arrays = result if isinstance(result, list | tuple) else [result]
        return [cupy.ascontiguousarray(x).reshape(-1).view("uint8").copy() for x in arrays]

    return not any(bool((a != b).any()) for a, b in zip(run_for_bits(), run_for_bits(), strict=True))


def measure_row(
    work: GpuProgram, dtype: str, m: int, n: int, pass_ms: float, set_count: int, use_compile: bool
) -> list[str]:
    """Time a program on both and return its row of the table."""
    ours = measure_cupy_ms([work.cupy(dtype, m, n) for _ in range(set_count)])
    eager = measure_torch_ms([work.torch(dtype, m, n) for _ in range(set_count)])
    compiled = ""
    if use_compile:
        ms = measure_torch_ms([work.torch(dtype, m, n, True) for _ in range(set_count)])
        compiled = f"{ms * 1e3:.0f}"
    ratio = eager / ours
    is_reached = work.min_speedup is None or ratio >= work.min_speedup
    return [
        work.name,
        f"{ours * 1e3:.0f}",
        f"{eager * 1e3:.0f}",
        compiled,
        f"{ratio:.2f}" if is_reached else f"[red]{ratio:.2f}[/red]",
        "" if work.min_speedup is None else f">= {work.min_speedup}",
        "" if work.min_passes is None else f"{work.min_passes * pass_ms / ours:.0%}",
        "yes" if is_repeatable(work.cupy(dtype, m, n)) else "[red]no[/red]",
    ]


def main() -> int:
    """Print a table for each dtype; return 1 where there is no GPU."""
    from gradspec.backends import Unavailable, load

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which is slow")
    options = parser.parse_args()
    try:
        for name in ("cupy", "torch:cuda"):
            load(name)
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 1
    m, n = options.rows, options.columns
    for dtype in ("float32", "bfloat16"):
        set_count = max(2, -(-MIN_BYTES_BEFORE_REUSE // (m * n * 2)))
        pass_ms = measure_memory_pass_ms(dtype, m, n, set_count)
        table = Table(*TABLE_HEADINGS, title=f"{dtype}, ({m},{n}); one pass takes {pass_ms * 1e3:.0f} us")
        for work in make_gpu_programs():
            table.add_row(*measure_row(work, dtype, m, n, pass_ms, set_count, not options.no_compile))
        Console(width=max(Console().width, 110)).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
