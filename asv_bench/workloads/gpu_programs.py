"""Programs that `tools/on_gpu.py` times on CuPy and in torch, and how much faster CuPy must be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from asv_bench.workloads.programs import mlp


@dataclass(frozen=True)
class GpuProgram:
    """A program on a table of m rows and n columns, for CuPy and for torch.

    `cupy` and `torch` take a dtype, m and n. They return the program on inputs of its own, as launches on the
    current stream; on CuPy it returns its results.

    Attributes:
        name: for people.
        min_passes: how often the least possible traffic passes over the table; None where arithmetic takes
            the time.
        min_speedup: how many times as fast as torch eager it must be; None where there is no goal.
        cupy: prepares it on CuPy.
        torch: prepares it in torch; a fourth argument says whether to compile it.
    """

    name: str
    min_passes: float | None
    min_speedup: float | None
    cupy: Callable[..., Callable[[], Any]]
    torch: Callable[..., Callable[[], Any]]


def make_preparer_on_cupy(
    program: Callable[..., Any], *shapes: str, stage: str
) -> Callable[..., Callable[[], Any]]:
    """Return what prepares a program of CuPy tensors.

    Args:
        program: the function of the inputs.
        *shapes: shapes of the inputs, such as "m,n", or "target" for m numbers of n classes.
        stage: "forward", "backward" for its pullback alone, or "both" for a loss and its gradients.
    """

    def prepare(dtype: str, m: int, n: int) -> Callable[[], Any]:
        import cupy
        import ml_dtypes

        from gradspec.backends.cupy import Tensor

        kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
        arrays = [
            cupy.random.randint(0, n, m)
            if s == "target"
            else cupy.random.standard_normal(resolve_shape(s, m, n)).astype(kind)
            for s in shapes
        ]
        leaves = [Tensor(x, requires_grad=x.dtype.kind not in "iu") for x in arrays]
        if stage == "forward":
            return lambda: program(*arrays)
        value = program(*leaves)
        g = cupy.random.standard_normal(value.shape).astype(kind)

        def run() -> list[Any]:
            for leaf in leaves:
                leaf.grad = None
            if stage == "both":
                program(*leaves).backward()
            else:
                value.backward(g)
            return collect_gradients(leaves)

        return run

    return prepare


def collect_gradients(leaves: Sequence[Any]) -> list[Any]:
    return [leaf.grad.data for leaf in leaves if leaf.grad is not None]


def make_preparer_on_torch(
    program: Callable[..., Any], *shapes: str, stage: str
) -> Callable[..., Callable[[], Any]]:
    """Return what prepares the same in torch, with the arguments of `prepare_on_cupy`."""

    def prepare(dtype: str, m: int, n: int, use_compile: bool = False) -> Callable[[], Any]:
        import torch

        kind = getattr(torch, dtype)
        leaves = [
            torch.randint(0, n, (m,), device="cuda")
            if s == "target"
            else torch.randn(
                resolve_shape(s, m, n), device="cuda", dtype=kind, requires_grad=stage != "forward"
            )
            for s in shapes
        ]
        fn = torch.compile(program) if use_compile else program
        differentiable = [x for x in leaves if x.requires_grad]
        if stage == "forward":
            return lambda: fn(*leaves)
        if stage == "both":
            return lambda: torch.autograd.grad(fn(*leaves), differentiable)
        value = fn(*leaves)
        g = torch.randn_like(value)
        return lambda: torch.autograd.grad(value, differentiable, g, retain_graph=True)

    return prepare


MLP_BATCH, MLP_LAYER_SIZES = 128, (784, 256, 10)


def list_mlp_shapes() -> list[tuple[int, ...]]:
    """Return the shapes of the weights and biases of two layers, and of the images."""
    n, hidden, classes = MLP_LAYER_SIZES
    return [(hidden, n), (hidden,), (classes, hidden), (classes,), (MLP_BATCH, n)]


def prepare_mlp_on_cupy(dtype: str, m: int, n: int) -> Callable[[], Any]:
    """Prepare the loss and gradients of a step, captured once as a CUDA graph and replayed."""
    import cupy
    import ml_dtypes

    from gradspec.backends.cupy import Tensor, capture_graph

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    arrays = [(0.05 * cupy.random.standard_normal(s)).astype(kind) for s in list_mlp_shapes()]

    def step(*arrays: Any) -> tuple[Any, ...]:
        *parameters, x, target = arrays
        w1, b1, w2, b2 = leaves = [Tensor(a, requires_grad=True) for a in parameters]
        loss = mlp(SimpleNamespace(**Tensor.ops), w1, b1, w2, b2, Tensor(x), Tensor(target))
        loss.backward()
        return (loss.data, *collect_gradients(leaves))

    arrays.append(cupy.random.randint(0, MLP_LAYER_SIZES[-1], MLP_BATCH))
    replay = capture_graph(step, *arrays)
    return lambda: replay(*arrays)


def prepare_mlp_on_torch(dtype: str, m: int, n: int, use_compile: bool = False) -> Callable[[], Any]:
    import torch
    from torch.nn import functional as F  # noqa: N812

    kind = getattr(torch, dtype)
    *leaves, x = (0.05 * torch.randn(s, device="cuda").to(kind) for s in list_mlp_shapes())
    leaves = [w.requires_grad_() for w in leaves]
    target = torch.randint(0, MLP_LAYER_SIZES[-1], (MLP_BATCH,), device="cuda")
    ops = SimpleNamespace(relu=torch.relu, linear=F.linear, cross_entropy=F.cross_entropy)

    def loss(*arrays: Any) -> Any:
        return mlp(ops, *arrays)

    fn = torch.compile(loss) if use_compile else loss
    return lambda: torch.autograd.grad(fn(*leaves, x, target), leaves)


def resolve_shape(shape: str, m: int, n: int) -> tuple[int, ...]:
    """Return the shape that a text such as "m,n" stands for."""
    return tuple({"m": m, "n": n, "1": 1}[part] for part in shape.split(","))


def make_gpu_programs() -> list[GpuProgram]:
    """Return all programs, with their goals."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    from gradspec.backends.cupy import Tensor, bias_activation, multiply_add

    ops = Tensor.ops

    def layer_norm(x: Any, w: Any, b: Any) -> Any:
        return F.layer_norm(x, w.shape, w, b)

    def make_program(
        name: str, stage: str, passes: float | None, goal: float | None, ours: Any, theirs: Any, *shapes: str
    ) -> GpuProgram:
        return GpuProgram(
            f"{name}, {stage}",
            passes,
            goal,
            make_preparer_on_cupy(ours, *shapes, stage=stage),
            make_preparer_on_torch(theirs, *shapes, stage=stage),
        )

    def make_forward_and_backward(
        name: str, passes: tuple[int, int], goals: tuple[float, float], ours: Any, theirs: Any, *shapes: str
    ) -> list[GpuProgram]:
        stages = zip(("forward", "backward"), passes, goals, strict=True)
        return [
            make_program(name, stage, least, goal, ours, theirs, *shapes) for stage, least, goal in stages
        ]

    def make_softmaxes(axis: int) -> tuple[Any, Any]:
        return (lambda x: ops["softmax"](x, axis=axis)), (lambda x: torch.softmax(x, axis))

    def make_sums(axis: int) -> tuple[Any, Any]:
        return (lambda x: ops["sum"](x, axis=axis)), (lambda x: torch.sum(x, axis))

    on_par = 0.95, 0.95
    return [
        *make_forward_and_backward(
            "layer_norm", (2, 3), (1.0, 1.5), ops["layer_norm"], layer_norm, "m,n", "n", "n"
        ),
        *make_forward_and_backward("softmax", (2, 3), on_par, *make_softmaxes(-1), "m,n"),
        *make_forward_and_backward("softmax of columns", (2, 3), on_par, *make_softmaxes(0), "m,n"),
        make_program("cross_entropy", "both", 2, 2.5, ops["cross_entropy"], F.cross_entropy, "m,n", "target"),
        make_program(
            "cross_entropy", "forward", 1, None, ops["cross_entropy"], F.cross_entropy, "m,n", "target"
        ),
        make_program(
            "cross_entropy", "backward", 2, None, ops["cross_entropy"], F.cross_entropy, "m,n", "target"
        ),
        *make_forward_and_backward("gelu", (2, 3), on_par, ops["gelu"], F.gelu, "m,n"),
        *make_forward_and_backward("tanh", (2, 3), on_par, ops["tanh"], torch.tanh, "m,n"),
        *make_forward_and_backward("divide", (3, 6), on_par, ops["divide"], torch.divide, "m,n", "m,n"),
        make_program("a*b", "backward", 1, 4, ops["multiply"], lambda a, b: a * b, "m,1", "1,n"),
        make_program(
            "a*b + b",
            "backward",
            1,
            4,
            lambda a, b: multiply_add(a, b, b),
            lambda a, b: a * b + b,
            "m,1",
            "1,n",
        ),
        make_program(
            "bias + relu", "backward", 3, 1.2, bias_activation, lambda x, b: torch.relu(x + b), "m,n", "n"
        ),
        make_program("sum of rows", "forward", 1, 0.95, *make_sums(-1), "m,n"),
        make_program("sum of columns", "forward", 1, 0.95, *make_sums(0), "m,n"),
        make_program("linear", "backward", None, 0.98, ops["linear"], F.linear, "m,n", "n,n", "n"),
        GpuProgram(
            f"MLP {'-'.join(map(str, MLP_LAYER_SIZES))} step, one graph",
            None,
            3,
            prepare_mlp_on_cupy,
            prepare_mlp_on_torch,
        ),
    ]
