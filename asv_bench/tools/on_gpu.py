"""How fast the CuPy backend is on a GPU, beside torch eager and torch.compile: `python -m asv_bench.tools.on_gpu`.

Each figure is the median of many calls, timed by CUDA events; the inputs change from call to call, so that none is found in
the cache. The share of the copy bandwidth is what the least traffic of the work would take at the speed that a plain copy
had in the same run, over what the work took. Work is marked as repeatable where a second run gives the same bits.
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

MIN_INPUT_BYTES = 256 * 2**20  # bytes of inputs before one is used again: more than the L2 of a GPU
TIMED_CALLS = 50
WARM_UP_CALLS = 5  # kernels are compiled, the allocators find their blocks


def measure_median_ms(
    runs: Sequence[Callable[[], Any]],
    record_event: Callable[[], Any],
    elapsed_ms: Callable[[Any, Any], float],
) -> float:
    """The median of many calls in milliseconds, each on the next set of inputs.

    event: records one on the current stream. elapsed: the milliseconds between two, waiting for the second.
    """
    turn = count()
    for _ in range(max(WARM_UP_CALLS, len(runs))):
        runs[next(turn) % len(runs)]()
    pairs = []
    for _ in range(TIMED_CALLS):
        start = record_event()
        runs[next(turn) % len(runs)]()
        pairs.append((start, record_event()))
    return median(elapsed_ms(*pair) for pair in pairs)


def measure_cupy_ms(runs: Sequence[Callable[[], Any]]) -> float:
    import cupy

    def elapsed(start: Any, end: Any) -> float:
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(start, end))

    return measure_median_ms(runs, lambda: cupy.cuda.get_current_stream().record(), elapsed)


def measure_torch_ms(runs: Sequence[Callable[[], Any]]) -> float:
    import torch

    def record_event() -> Any:
        made = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        made.record()
        return made

    def elapsed(start: Any, end: Any) -> float:
        end.synchronize()
        return float(start.elapsed_time(end))

    return measure_median_ms(runs, record_event, elapsed)


def measure_pass_ms(dtype: str, m: int, n: int, set_count: int) -> float:
    """Milliseconds for one pass over the table, half of what a copy takes."""
    import cupy

    bytes_ = m * n * (4 if dtype == "float32" else 2)
    pairs = [cupy.zeros((2, bytes_), "uint8") for _ in range(set_count)]
    return measure_cupy_ms([lambda p=p: cupy.copyto(p[0], p[1]) for p in pairs]) / 2  # type: ignore[misc]


def is_repeatable(run: Callable[[], Any]) -> bool:
    """Whether two runs on the same inputs give the same bits."""
    import cupy

    def run_for_bits() -> list[Any]:
        found = run()
        arrays = found if isinstance(found, list | tuple) else [found]
        return [cupy.ascontiguousarray(x).reshape(-1).view("uint8").copy() for x in arrays]

    return not any(bool((a != b).any()) for a, b in zip(run_for_bits(), run_for_bits(), strict=True))


def make_row(
    work: GpuProgram, dtype: str, m: int, n: int, pass_ms: float, set_count: int, use_compile: bool
) -> list[str]:
    ours = measure_cupy_ms([work.cupy(dtype, m, n) for _ in range(set_count)])
    eager = measure_torch_ms([work.torch(dtype, m, n) for _ in range(set_count)])
    best = (
        measure_torch_ms([work.torch(dtype, m, n, True) for _ in range(set_count)]) if use_compile else None
    )
    ratio = eager / ours
    kept = work.min_speedup is None or ratio >= work.min_speedup
    return [
        work.name,
        f"{ours * 1e3:.0f}",
        f"{eager * 1e3:.0f}",
        "" if best is None else f"{best * 1e3:.0f}",
        f"{ratio:.2f}" if kept else f"[red]{ratio:.2f}[/red]",
        "" if work.min_speedup is None else f">= {work.min_speedup}",
        "" if work.min_passes is None else f"{work.min_passes * pass_ms / ours:.0%}",
        "yes" if is_repeatable(work.cupy(dtype, m, n)) else "[red]no[/red]",
    ]


def main() -> int:
    """Print a table for each dtype; 1 where there is no GPU."""
    from gradspec.backends import Unavailable, load

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument(
        "--no-compile", action="store_true", help="leave torch.compile out, which takes a while to compile"
    )
    options = parser.parse_args()
    try:
        for name in ("cupy", "torch:cuda"):
            load(name)
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 1
    m, n = options.rows, options.columns
    for dtype in ("float32", "bfloat16"):
        sets = max(2, -(-MIN_INPUT_BYTES // (m * n * 2)))
        a_pass = measure_pass_ms(dtype, m, n, sets)
        table = Table("work", "cupy, us", "torch, us", "compiled, us", "torch / cupy", "goal", "of copy", "repeatable",
                      title=f"{dtype}, ({m},{n}); one pass takes {a_pass * 1e3:.0f} us")  # fmt: skip
        for work in make_gpu_programs():
            table.add_row(*make_row(work, dtype, m, n, a_pass, sets, not options.no_compile))
        Console(width=max(Console().width, 110)).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
