"""How fast the CuPy backend is on a GPU, beside torch eager and torch.compile: `python -m asv_bench.on_gpu`.

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

from asv_bench.gpu_work import Work, works

CACHE = 256 * 2**20  # bytes of inputs before one is used again: more than the L2 of a GPU
CALLS = 50
WARM_UP = 5  # kernels are compiled, the allocators find their blocks


def timed(
    sets: Sequence[Callable[[], Any]], event: Callable[[], Any], elapsed: Callable[[Any, Any], float]
) -> float:
    """The median of many calls in milliseconds, each on the next set of inputs.

    event: records one on the current stream. elapsed: the milliseconds between two, waiting for the second.
    """
    turn = count()
    for _ in range(max(WARM_UP, len(sets))):
        sets[next(turn) % len(sets)]()
    pairs = []
    for _ in range(CALLS):
        start = event()
        sets[next(turn) % len(sets)]()
        pairs.append((start, event()))
    return median(elapsed(*pair) for pair in pairs)


def cupy_time(sets: Sequence[Callable[[], Any]]) -> float:
    import cupy

    def elapsed(start: Any, end: Any) -> float:
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(start, end))

    return timed(sets, lambda: cupy.cuda.get_current_stream().record(), elapsed)


def torch_time(sets: Sequence[Callable[[], Any]]) -> float:
    import torch

    def event() -> Any:
        made = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        made.record()
        return made

    def elapsed(start: Any, end: Any) -> float:
        end.synchronize()
        return float(start.elapsed_time(end))

    return timed(sets, event, elapsed)


def copy_speed(dtype: str, m: int, n: int, sets: int) -> float:
    """Milliseconds for one pass over the table, half of what a copy takes."""
    import cupy

    bytes_ = m * n * (4 if dtype == "float32" else 2)
    pairs = [cupy.zeros((2, bytes_), "uint8") for _ in range(sets)]
    return cupy_time([lambda p=p: cupy.copyto(p[0], p[1]) for p in pairs]) / 2  # type: ignore[misc]


def is_repeatable(run: Callable[[], Any]) -> bool:
    """Whether two runs on the same inputs give the same bits."""
    import cupy

    def bits() -> list[Any]:
        found = run()
        arrays = found if isinstance(found, list | tuple) else [found]
        return [cupy.ascontiguousarray(x).reshape(-1).view("uint8").copy() for x in arrays]

    return not any(bool((a != b).any()) for a, b in zip(bits(), bits(), strict=True))


def row(work: Work, dtype: str, m: int, n: int, a_pass: float, sets: int, compiled: bool) -> list[str]:
    ours = cupy_time([work.cupy(dtype, m, n) for _ in range(sets)])
    eager = torch_time([work.torch(dtype, m, n) for _ in range(sets)])
    best = torch_time([work.torch(dtype, m, n, True) for _ in range(sets)]) if compiled else None
    ratio = eager / ours
    kept = work.goal is None or ratio >= work.goal
    return [
        work.name,
        f"{ours * 1e3:.0f}",
        f"{eager * 1e3:.0f}",
        "" if best is None else f"{best * 1e3:.0f}",
        f"{ratio:.2f}" if kept else f"[red]{ratio:.2f}[/red]",
        "" if work.goal is None else f">= {work.goal}",
        "" if work.passes is None else f"{work.passes * a_pass / ours:.0%}",
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
        sets = max(2, -(-CACHE // (m * n * 2)))
        a_pass = copy_speed(dtype, m, n, sets)
        table = Table("work", "cupy, us", "torch, us", "compiled, us", "torch / cupy", "goal", "of copy", "repeatable",
                      title=f"{dtype}, ({m},{n}); one pass takes {a_pass * 1e3:.0f} us")  # fmt: skip
        for work in works():
            table.add_row(*row(work, dtype, m, n, a_pass, sets, not options.no_compile))
        Console(width=max(Console().width, 110)).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
