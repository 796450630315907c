"""The CuPy backend without a GPU: its rules on the fake CuPy, and why it is unavailable."""

import importlib
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from asv_bench.tools import on_gpu
from asv_bench.workloads import gpu_programs
from gradspec.backends import Backend, Unavailable, load, load_all
from gradspec.reference import OPS, Op, Tensor, vjp
from tests.backends.checks import (
    DTYPES,
    GETITEM_KEYS,
    TOLERANCES,
    VIEWS,
    ShortAxisChoices,
    assert_agrees_with_spec,
    draw_array,
)
from tests.backends.cupy.kernels_under_test import cupy_backends, fake_cupy, launch, needs_compiler, rules

ROOT = Path(__file__).parents[3]
OFFERED_OPS = [op for op in OPS.values() if op.name not in rules.NOT_OFFERED]


@pytest.fixture(scope="module")
def backend() -> Backend:
    composed: Backend = cupy_backends.composed()
    return composed


def variable_class_of(backend: Backend) -> Any:
    """Return the class of the backend's variables."""
    return backend.vjp.keywords["variable_class"]  # type: ignore[attr-defined]


# Ops


def test_every_op_is_offered_in_every_dtype(backend: Backend) -> None:
    assert set(backend.ops) == set(OPS) - rules.NOT_OFFERED
    assert backend.dtypes == {"float64", "float32", "float16", "bfloat16"}


@pytest.mark.parametrize("op", OFFERED_OPS, ids=lambda op: op.name)
def test_every_op_agrees(backend: Backend, op: Op) -> None:
    for dtype in backend.dtypes:
        for seed in range(3):
            assert_agrees_with_spec(backend, op, DTYPES[dtype], ShortAxisChoices(seed), TOLERANCES[dtype])


@pytest.mark.parametrize("kernels", [False, pytest.param(True, marks=needs_compiler)])
@pytest.mark.parametrize("op", OFFERED_OPS, ids=lambda op: op.name)
def test_no_op_waits_for_the_device(op: Op, kernels: bool) -> None:
    backend: Backend = cupy_backends.gpu() if kernels else cupy_backends.composed()
    case, rng = op.draw_call(ShortAxisChoices(1)), np.random.default_rng(0)
    arrays = [backend.from_numpy(draw_array(op, i, s, rng)) for i, s in enumerate(case.shapes)]
    free = op.differentiable_arguments(len(arrays))
    xs = [variable_class_of(backend)(x, requires_grad=i in free) for i, x in enumerate(arrays)]
    before = fake_cupy.wait_count
    value = backend.ops[op.name](*((xs,) if op.variadic else xs), **case.keywords)
    if value.requires_grad:
        value.backward(value.data)
    assert fake_cupy.wait_count == before


def test_what_nobody_wrote_is_nan_while_memory_is_poisoned(backend: Backend) -> None:
    def allocate_zeros(size: int) -> Any:
        return fake_cupy.Pointer(np.zeros(size, np.uint8))

    empty = fake_cupy.make_cupy_module().empty
    with fake_cupy.using_allocator(allocate_zeros):
        assert not empty(3, np.float32).array.any()
        with backend.poisoned():
            assert np.isnan(empty((2, 3), np.float32).array).all()
            assert empty(0).shape == (0,)
        assert not empty(3, np.float32).array.any()


@pytest.mark.parametrize("key", GETITEM_KEYS, ids=repr)
def test_keys_are_those_of_numpy(backend: Backend, key: Any) -> None:
    x = np.arange(24.0).reshape(4, 3, 2)
    value, pullback = backend.vjp(lambda x: backend.ops["getitem"](x, key=key), backend.from_numpy(x))
    np.testing.assert_array_equal(backend.to_numpy(value), x[key])
    expected = np.zeros_like(x)
    np.add.at(expected, key, x[key])
    np.testing.assert_array_equal(backend.to_numpy(pullback(value)[0]), expected)


def test_a_target_that_is_not_a_class_raises_when_somebody_waits(backend: Backend) -> None:
    x, target = backend.from_numpy(np.ones((2, 3))), backend.from_numpy(np.array([0, 3]))
    loss = backend.ops["cross_entropy"](x, target)
    with pytest.raises(ValueError, match=r"targets must be integers in 0..2"):
        backend.to_numpy(loss)
    backend.to_numpy(loss)  # the error is raised only once


def test_a_step_of_training_on_variables(backend: Backend) -> None:
    """Operators, NumPy's functions and `backward` of variables that hold CuPy arrays."""
    start = np.array([[1.0, 2.0], [3.0, 4.0]])
    x = variable_class_of(backend)(backend.from_numpy(start), requires_grad=True)
    expected = Tensor(start, True)
    for y in (x, expected):
        np.sum((2 - y @ y[::-1]) / 4).backward()
        y.data = y.data - 0.5 * y.grad.data  # type: ignore[union-attr]
    np.testing.assert_array_equal(x.data.get(), expected.data)


@pytest.fixture(scope="module")
def cupy_package() -> Any:
    """The package of the backend, on the fake CuPy."""
    with cupy_backends.replace_cupy():
        return importlib.import_module("gradspec.backends.cupy")


@needs_compiler
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("fused", "composed", "shapes"),
    [
        ("bias_activation", lambda x, b: OPS["relu"](OPS["add"](x, b)), [(70, 33), (33,)]),
        ("bias_activation", lambda x, b: OPS["relu"](OPS["add"](x, b)), [(2, 3, 8), (8,)]),
        ("bias_activation", lambda x, b: OPS["relu"](OPS["add"](x, b)), [(0, 8), (8,)]),
        ("multiply_add", lambda a, b, c: OPS["add"](OPS["multiply"](a, b), c), [(150, 1), (1, 40), (1, 40)]),
        ("multiply_add", lambda a, b, c: OPS["add"](OPS["multiply"](a, b), c), [(2, 1), (3,), (2, 3)]),
    ],
)
def test_what_is_fused_is_what_it_is_made_of(
    cupy_package: Any, fused: str, composed: Any, shapes: list[tuple[int, ...]], dtype: str
) -> None:
    rng = np.random.default_rng(0)
    xs = [rng.uniform(0.5, 2, s).astype(DTYPES[dtype]) for s in shapes]
    tensors = [cupy_package.Tensor(fake_cupy.asarray(x), requires_grad=True) for x in xs]
    value = getattr(cupy_package, fused)(*tensors)
    exact, pull = vjp(composed, *(x.astype(np.float64) for x in xs))
    g = np.asarray(rng.uniform(0.5, 2, exact.shape)).astype(DTYPES[dtype])
    value.backward(fake_cupy.asarray(g))
    results = [value.data, *(t.grad.data for t in tensors)]
    for y, expected in zip(results, [exact, *pull(g.astype(np.float64))], strict=True):
        assert (y.dtype, y.shape) == (DTYPES[dtype], expected.shape)
        # The last rounding to 16 bits, or each rounding of a sum of positive numbers.
        roundings = 2 if DTYPES[dtype].itemsize == 2 else 150
        rtol = roundings * float(ml_dtypes.finfo(DTYPES[dtype]).eps)
        np.testing.assert_allclose(y.get().astype(np.float64), expected, rtol)


@needs_compiler
@pytest.mark.parametrize("n", [2**20, 140001])
@pytest.mark.parametrize("op", ["sum", "mean"])
def test_a_long_sum_is_that_of_its_parts(op: str, n: int) -> None:
    """The sum is cut in two if the length allows it, or has more partial sums than are summed at once."""
    x = np.random.default_rng(0).standard_normal(n).astype(np.float32)

    def is_right(backend: Backend) -> bool:
        value = backend.to_numpy(backend.ops[op](backend.from_numpy(x)))
        expected = OPS[op].rule(x.astype(np.float64))[0]
        size = np.abs(x).sum() / (n if op == "mean" else 1)
        return bool(abs(value - expected) <= size * 2**-20)  # 8 roundings to float32

    assert is_right(cupy_backends.gpu())
    loop = "for (i64 k = threadIdx.x % 32; k < tiles; k += 32)"
    all_but_last = loop.replace("k < tiles", "k + 1 < tiles")
    changes = {"launch.read_source": lambda file: launch.read_source(file).replace(loop, all_but_last)}
    assert not is_right(cupy_backends.load_with_changes(changes))


SHAPES_AND_KEYWORDS: dict[str, tuple[list[tuple[int, ...]], dict[str, Any]]] = {
    "tanh": ([(6, 40)], {}),
    "softmax": ([(6, 40)], {"axis": 1}),
    "log_softmax": ([(6, 40)], {"axis": 0}),
    "layer_norm": ([(6, 40), (40,), (40,)], {}),
    "divide": ([(6, 40), (6, 40)], {}),
    "multiply": ([(6, 1), (1, 40)], {}),
    "linear": ([(6, 40), (7, 40), (7,)], {}),
    "matmul": ([(6, 40), (40, 7)], {}),
    "reshape": ([(6, 40)], {"shape": (40, 6)}),
}
"""By op: the shapes of its arguments, and its keywords."""


@needs_compiler
@pytest.mark.parametrize("op", [*SHAPES_AND_KEYWORDS, "cross_entropy"])
def test_a_gradient_that_nobody_else_has_is_not_copied(
    cupy_package: Any, op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy would go over the memory twice more."""
    rng = np.random.default_rng(0)
    shapes, keywords = SHAPES_AND_KEYWORDS.get(op, ([(6, 40)], {}))
    xs = [cupy_package.Tensor(fake_cupy.asarray(rng.uniform(0.5, 2, s)), requires_grad=True) for s in shapes]
    targets = [fake_cupy.asarray(np.arange(6))] if op == "cross_entropy" else []
    value = cupy_package.Tensor.ops[op](*xs, *targets, **keywords)
    value = value * 3.0 if op == "reshape" else value  # then the cotangent is the tape's own
    g = fake_cupy.asarray(rng.uniform(0.5, 2, value.shape))
    copies: list[tuple[int, ...]] = []
    copy = fake_cupy.ndarray.copy

    def record_copy(x: Any) -> Any:
        copies.append(x.shape)
        return copy(x)

    monkeypatch.setattr(fake_cupy.ndarray, "copy", record_copy)
    value.backward(g)
    assert copies == []
    assert all(x.grad is not None for x in xs)


def test_an_activation_that_is_not_fused_is_refused(cupy_package: Any) -> None:
    x, bias = fake_cupy.asarray(np.ones((2, 2))), fake_cupy.asarray(np.ones(2))
    with pytest.raises(ValueError, match="activation is 'swish'; allowed are relu, "):
        cupy_package.bias_activation(x, bias, activation="swish")


def test_a_graph_is_captured_after_a_warm_up_and_replayed_in_the_same_memory(cupy_package: Any) -> None:
    runs = []

    def step(x: Any) -> Any:
        runs.append(len(fake_cupy.stream_events))
        return x

    fake_cupy.stream_events.clear()
    x = fake_cupy.asarray(np.ones(2))
    replay = cupy_package.capture_graph(step, x)
    assert fake_cupy.stream_events == ["synchronize", "begin", "end"]
    assert runs == [0, 0, 2]  # the last run is what was captured
    y = replay(fake_cupy.asarray(np.array([3.0, 4.0])))
    assert y is not x
    np.testing.assert_array_equal(y.get(), [3, 4])
    assert fake_cupy.stream_events[3:] == ["launch"]
    assert len(runs) == 3


# Arrays


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", VIEWS)
def test_elements_and_strides_are_kept(backend: Backend, name: str, dtype: str) -> None:
    x = VIEWS[name](np.arange(24).reshape(4, 6).astype(DTYPES[dtype]))
    original = backend.from_numpy(x)
    copy = variable_class_of(backend).copy_with_layout(original)
    for y in (original, copy):
        np.testing.assert_array_equal(backend.to_numpy(y), x)
        assert (y.dtype, y.strides) == (x.dtype, x.strides) or not x.size
    assert not np.may_share_memory(original.array, copy.array) or not x.size


def test_an_offset_between_vector_loads_is_kept(backend: Backend) -> None:
    x = np.zeros(10_000, np.float32)
    y = backend.from_numpy(x[5_003:][:4]).array
    offset = y.__array_interface__["data"][0] - np.lib.array_utils.byte_bounds(y.base)[0]
    assert offset == 5_003 * 4 % 512


# The fake CuPy is as strict as CuPy: what goes wrong on CuPy goes wrong here


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x + np.ones(2),
        lambda x: np.concatenate([x, np.ones(2)]),
        np.asarray,
        lambda x: np.max(x, initial=0),
        np.frompyfunc(abs, 1, 1),
        np.add.reduce,
    ],
)
def test_the_stand_in_refuses_what_cupy_refuses(wrong: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError):
        wrong(fake_cupy.asarray(np.ones(2)))


def test_the_stand_in_starts_with_nan() -> None:
    assert np.isnan(fake_cupy.ndarray((2, 2)).get()).all()


# Unavailable


def make_raising_function(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ({"is_available": lambda: False,
          "getDeviceCount": make_raising_function(RuntimeError("no driver\nat all"))},
         "no CUDA driver or device (no driver)"),
        ({"is_available": lambda: False}, "no CUDA device"),
        ({"getVersion": make_raising_function(ImportError("libnvrtc"))},
         "no NVRTC, which compiles kernels: pip install nvidia-cuda-nvrtc (libnvrtc)"),
        ({"RawKernel": make_raising_function(RuntimeError("bad image"))},
         "the first kernel failed (bad image)"),
        ({"RawKernel": lambda *_: lambda *_: None}, "the first kernel failed (twice 21 is 21)"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_in_one_line(missing: dict[str, Any], reason: str) -> None:
    with cupy_backends.replace_cupy():
        probe = importlib.import_module("gradspec.backends.cupy.probe")
        parts: dict[str, Any] = {"is_available": lambda: True, "getDeviceCount": lambda: 0}
        parts |= {"getVersion": lambda: (13, 0)} | missing
        runtime = SimpleNamespace(getDeviceCount=parts["getDeviceCount"])
        nvrtc = SimpleNamespace(getVersion=parts["getVersion"])
        vars(probe)["cupy"] = SimpleNamespace(
            is_available=parts["is_available"],
            cuda=SimpleNamespace(runtime=runtime, nvrtc=nvrtc),
            RawKernel=parts.get("RawKernel"),
            full=np.full,
            int32=np.int32,
        )
        assert probe.find_obstacle() == reason


def test_without_cupy_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("gradspec.backends.cupy")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(Unavailable, match=r"^cupy: cupy is not installed$"):
        load("cupy")


@pytest.mark.skipif(fake_cupy.real_cupy.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_shown_as_unavailable() -> None:
    unavailable = load_all()["cupy"]
    assert isinstance(unavailable, Unavailable)
    assert str(unavailable).startswith("cupy: no CUDA")
    assert "\n" not in str(unavailable)


# The benchmark


def test_the_benchmark_changes_its_inputs_from_call_to_call() -> None:
    calls: list[int] = []
    sets = [lambda i=i: calls.append(i) for i in range(3)]
    clock = itertools.count()
    median = on_gpu.measure_median_ms(sets, lambda: next(clock))
    assert median == 1e3
    assert calls == [i % 3 for i in range(len(calls))]
    assert gpu_programs.resolve_shape("m,1", 5, 7) == (5, 1)


@needs_compiler
def test_the_work_of_the_benchmark_runs_and_is_repeatable() -> None:
    with cupy_backends.replace_cupy():
        event_count = len(fake_cupy.stream_events)
        for work in gpu_programs.make_gpu_programs():
            run = work.cupy("float32", 6, 16)
            assert on_gpu.is_repeatable(run), work.name
        # The step of the MLP, twice.
        assert fake_cupy.stream_events[event_count:].count("launch") == 2

        draws = itertools.count()
        assert not on_gpu.is_repeatable(lambda: fake_cupy.asarray(np.array([next(draws)])))


@pytest.mark.skipif(fake_cupy.real_cupy.is_available(), reason="there is a GPU")
def test_the_benchmark_says_in_one_line_that_there_is_no_gpu() -> None:
    command = [sys.executable, "-m", "asv_bench.tools.on_gpu"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith("cupy: no CUDA")
    assert process.stderr.count("\n") == 1
