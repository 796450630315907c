"""How fast the CuPy backend is on a GPU, beside torch eager and torch.compile: `python asv_bench/on_gpu.py`.

Each figure is the median of many calls, timed by CUDA events; the inputs change from call to call, so that none is found in
the cache. The share of the copy bandwidth is what the least traffic of the work would take at the speed that a plain copy
had in the same run, over what the work took.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

CACHE = (
    256 * 2**20
)  # bytes of inputs that calls go through before one is used again; the L2 of a GPU is smaller
CALLS = 50
WARM_UP = 5  # kernels are compiled, the allocators find their blocks


@dataclass(frozen=True)
class Work:
    """What is timed. passes: how often the least traffic goes over the table. goal: times faster than torch eager.

    cupy, torch: from a dtype and a shape to the work on inputs of its own, as launches on the current stream.
    """

    name: str
    passes: float
    goal: float | None
    cupy: Callable[..., Callable[[], Any]]
    torch: Callable[..., Callable[[], Any]]


def on_cupy(program: Callable[..., Any], *shapes: str, backward: bool) -> Callable[..., Callable[[], Any]]:
    """A program of variables, forward or its pullback alone. shapes: of its inputs, as "m,n"; "m" alone is of targets."""

    def prepare(dtype: str, m: int, n: int) -> Callable[[], Any]:
        import cupy
        import ml_dtypes

        from gradspec.backends.cupy import Tensor

        kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
        arrays = [
            cupy.random.randint(0, n, m)
            if s == "target"
            else cupy.random.standard_normal(sized(s, m, n)).astype(kind)
            for s in shapes
        ]
        leaves = [Tensor(x, requires_grad=x.dtype.kind not in "iu") for x in arrays]
        if not backward:
            return lambda: program(*arrays)
        value = program(*leaves)
        g = cupy.random.standard_normal(value.shape).astype(kind)

        def run() -> None:
            for leaf in leaves:
                leaf.grad = None
            value.backward(g)

        return run

    return prepare


def on_torch(program: Callable[..., Any], *shapes: str, backward: bool) -> Callable[..., Callable[[], Any]]:
    def prepare(dtype: str, m: int, n: int, compiled: bool = False) -> Callable[[], Any]:
        import torch

        kind = getattr(torch, dtype)
        leaves = [
            torch.randint(0, n, (m,), device="cuda")
            if s == "target"
            else torch.randn(sized(s, m, n), device="cuda", dtype=kind, requires_grad=backward)
            for s in shapes
        ]
        fn = torch.compile(program) if compiled else program
        if not backward:
            return lambda: fn(*leaves)
        value = fn(*leaves)
        g, free = torch.randn_like(value), [x for x in leaves if x.requires_grad]
        return lambda: torch.autograd.grad(value, free, g, retain_graph=True)

    return prepare


def sized(shape: str, m: int, n: int) -> tuple[int, ...]:
    """The shape "m,n" with the numbers put in."""
    return tuple({"m": m, "n": n, "1": 1}[part] for part in shape.split(","))


def works() -> list[Work]:
    """The table of goals."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    from gradspec.backends.cupy import Tensor, bias_activation, multiply_add

    ops = Tensor.ops

    def layer_norm(x: Any, w: Any, b: Any) -> Any:
        return F.layer_norm(x, w.shape, w, b)

    def work(name: str, passes: float, goal: float | None, ours: Any, theirs: Any, *shapes: str) -> Work:
        back = name.endswith("backward")
        return Work(
            name,
            passes,
            goal,
            on_cupy(ours, *shapes, backward=back),
            on_torch(theirs, *shapes, backward=back),
        )

    return [
        work("layer_norm forward", 2, 1.0, ops["layer_norm"], layer_norm, "m,n", "n", "n"),
        work("layer_norm backward", 3, 1.5, ops["layer_norm"], layer_norm, "m,n", "n", "n"),
        work("softmax forward", 2, 0.95, ops["softmax"], lambda x: torch.softmax(x, -1), "m,n"),
        work("softmax backward", 3, 0.95, ops["softmax"], lambda x: torch.softmax(x, -1), "m,n"),
        work("cross_entropy forward", 1, None, ops["cross_entropy"], F.cross_entropy, "m,n", "target"),
        work("cross_entropy backward", 2, 2.5, ops["cross_entropy"], F.cross_entropy, "m,n", "target"),
        work("gelu forward", 2, 0.95, ops["gelu"], F.gelu, "m,n"),
        work("gelu backward", 3, 0.95, ops["gelu"], F.gelu, "m,n"),
        work("a*b backward", 1, 4, ops["multiply"], lambda a, b: a * b, "m,1", "1,n"),
        work(
            "a*b + b backward", 1, 4, lambda a, b: multiply_add(a, b, b), lambda a, b: a * b + b, "m,1", "1,n"
        ),
        work("bias + relu backward", 3, 1.2, bias_activation, lambda x, b: torch.relu(x + b), "m,n", "n"),
    ]


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


def row(work: Work, dtype: str, m: int, n: int, a_pass: float, sets: int, compiled: bool) -> list[str]:
    ours = cupy_time([work.cupy(dtype, m, n) for _ in range(sets)])
    eager = torch_time([work.torch(dtype, m, n) for _ in range(sets)])
    cells = [work.name, f"{ours * 1e3:.0f}", f"{eager * 1e3:.0f}"]
    cells.append(
        f"{torch_time([work.torch(dtype, m, n, True) for _ in range(sets)]) * 1e3:.0f}" if compiled else ""
    )
    ratio = eager / ours
    shown = f"{ratio:.2f}" if work.goal is None or ratio >= work.goal else f"[red]{ratio:.2f}[/red]"
    return [
        *cells,
        shown,
        "" if work.goal is None else f">= {work.goal}",
        f"{work.passes * a_pass / ours:.0%}",
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
        load("cupy"), load("torch:cuda")
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 1
    m, n = options.rows, options.columns
    for dtype in ("float32", "bfloat16"):
        sets = max(2, -(-CACHE // (m * n * 2)))
        a_pass = copy_speed(dtype, m, n, sets)
        table = Table("work", "cupy, us", "torch, us", "compiled, us", "torch / cupy", "goal", "of copy",
                      title=f"{dtype}, ({m},{n}); one pass takes {a_pass * 1e3:.0f} us")  # fmt: skip
        for work in works():
            table.add_row(*row(work, dtype, m, n, a_pass, sets, not options.no_compile))
        Console(width=max(Console().width, 110)).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
