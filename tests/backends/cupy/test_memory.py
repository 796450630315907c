"""What the CUDA C of the CuPy backend does to memory: bounds, alignment, races, and the bytes moved."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import differentiate
from tests.backends.cupy.kernel_cases import make_case, make_large_cases, make_small_cases, normal
from tests.backends.cupy.kernels_under_test import cupy_backends, emulation, fake_cupy, launch, needs_compiler

pytestmark = [pytest.mark.rotating, needs_compiler]


# What is refused. Each kernel is right if WRONG is 0, and wrong if it is 1.

SMALL_KERNELS_SOURCE = """
template <typename T, int V> struct alignas(sizeof(T) * V) Pack { T e[V]; };
struct Bits { unsigned bits; };
__device__ Bits negative(Bits x) {
  Bits y = {x.bits ^ 0x80000000u};
  return y;
}
#define KERNEL(name) \\
  template <int WRONG> __global__ void name(const float* x, float* y, int n, int* count)
#define t threadIdx.x

KERNEL(load_thrown_away) {
  float a = x[!WRONG && t >= n ? 0 : t];
  if (t < n) y[t] = a;
}
KERNEL(load_unused) {
  float a = x[WRONG ? n : 0];
}
KERNEL(load_before_the_start) {
  if (t < n) y[t] = x[(int)t - WRONG];
}
KERNEL(store_beyond_the_end) {
  if (t < n + WRONG) y[t] = 1;
}
KERNEL(load_partly_beyond) {
  double a = *(const double*)(x + (WRONG ? n - 1 : 0));
}
KERNEL(struct_beyond) {
  if (t < n + WRONG) ((Bits*)y)[t] = negative(((const Bits*)x)[t]);
}
KERNEL(copied_beyond) {
  if (t == 0) memcpy(y, x, sizeof(float) * (n + WRONG));
}
KERNEL(none_given) {
  const float* other = nullptr;
  if (WRONG) y[t] = other[t];
}
KERNEL(shared_beyond) {
  SHARED(float, s, 64 - WRONG);
  s[t] = t;
}
KERNEL(local_beyond) {
  float e[4] = {};
  for (int i = 0; i < 4 + WRONG; i++) e[i] = i;
}
KERNEL(load_not_aligned) {
  Pack<float, 4> a = *(const Pack<float, 4>*)(x + WRONG);
}
KERNEL(store_not_aligned) {
  Pack<float, 2> a = {};
  if (t == 0) *(Pack<float, 2>*)(y + WRONG) = a;
}
KERNEL(shared_not_aligned) {
  SHARED(float, s, 64);
  typedef Pack<float, 4> Pack4;
  SHARED(Pack4, p, 16);
  Pack4 a = *(WRONG ? (Pack4*)s : p);
}
KERNEL(atomic_not_aligned) { atomicAdd((int*)((char*)count + WRONG), 1); }
KERNEL(no_barrier_after_a_write) {
  SHARED(float, s, 64);
  s[t] = t;
  WRONG ? __syncwarp() : __syncthreads();
  float a = s[t ^ 32];
}
KERNEL(no_barrier_before_the_next_write) {
  SHARED(float, s, 64);
  s[t] = t;
  __syncthreads();
  float a = s[63 - t];
  if (!WRONG) __syncthreads();
  s[t] = a;
}
KERNEL(warp_is_not_in_step) {
  SHARED(float, s, 64);
  s[t] = t;
  if (!WRONG) __syncwarp();
  float a = s[t ^ 1];
}
KERNEL(shuffle_orders_a_warp) {
  SHARED(float, s, 64);
  s[t] = t;
  float a = __shfl_xor_sync(0xffffffff, (float)t, 1);
  a = s[t ^ (WRONG ? 33 : 1)];
}
KERNEL(read_by_many) {
  SHARED(float, s, 1);
  if (t == 7) s[0] = 1;
  __syncthreads();
  float a = s[0];
  if (!WRONG) __syncthreads();
  if (t == n) s[0] = 2;
}
KERNEL(written_by_two) {
  if (WRONG || t == 0) y[0] = 1;
}
KERNEL(barriers_order_no_blocks) {
  __syncthreads();
  if (t == 0) y[WRONG ? 0 : blockIdx.x] = 1;
}
KERNEL(read_of_another_block) {
  if (t == 0) y[blockIdx.x] = 1;
  __syncthreads();
  float a = y[WRONG ? 0 : blockIdx.x];
}
KERNEL(halves_of_an_element) {
  if (t < 2) ((short*)y)[WRONG ? 0 : t] = 1;
}
KERNEL(sum_without_atomics) {
  if (WRONG) *count += 1;
  else atomicAdd(count, 1);
}
KERNEL(flag_without_atomics) {
  atomicOr(count, 1);
  if (WRONG && t == 40) *count = 1;
}
KERNEL(flag_read_too_soon) {
  atomicOr(count, 1);
  if (!WRONG) __syncthreads();
  if (blockIdx.x == 0) int a = WRONG || gridDim.x == 1 ? *count : 0;
}
"""

EXPECTED_MESSAGES = {
    "load_thrown_away": (
        "reads 4 bytes at byte 252 of argument 0, float32 of shape (63,), which has 252 bytes"
    ),
    "load_unused": "reads 4 bytes at byte 252 of argument 0",
    "load_before_the_start": "reads 4 bytes at byte -4 of argument 0",
    "store_beyond_the_end": "thread 63 writes 4 bytes at byte 252 of argument 1",
    "load_partly_beyond": "reads 8 bytes at byte 248 of argument 0",
    "struct_beyond": "reads 4 bytes at byte 252 of argument 0",
    "copied_beyond": "reads 256 bytes at byte 0 of argument 0",
    "none_given": "at address 0x",
    "shared_beyond": "writes 4 bytes at byte 252 of the shared memory declared in line",
    "local_beyond": "takes element 4 of a local array of type 'float [4]'",
    "load_not_aligned": (
        "at byte 4 of argument 0, float32 of shape (63,), which does not lie at a multiple of 16"
    ),
    "store_not_aligned": (
        "at byte 4 of argument 1, float32 of shape (63,), which does not lie at a multiple of 8"
    ),
    "shared_not_aligned": "does not lie at a multiple of 16 bytes",
    "atomic_not_aligned": (
        "at byte 1 of argument 3, int32 of shape (1,), which does not lie at a multiple of 4"
    ),
    "no_barrier_after_a_write": "with no barrier in between",
    "no_barrier_before_the_next_write": "with no barrier in between",
    "warp_is_not_in_step": "with no barrier in between",
    "shuffle_orders_a_warp": "with no barrier in between",
    "read_by_many": "byte 0 of the shared memory declared in line",
    "written_by_two": "writes byte 0 of argument 1, float32 of shape (63,), which thread",
    "barriers_order_no_blocks": "blocks have no order",
    "read_of_another_block": "blocks have no order",
    "halves_of_an_element": "with no barrier in between",
    "sum_without_atomics": "with no barrier in between",
    "flag_without_atomics": "writes byte 0 of argument 3, int32 of shape (1,), which thread",
    "flag_read_too_soon": "with no barrier in between",
}
"""By the name of a kernel in `SMALL_KERNELS_SOURCE`: the message if it is wrong."""

BLOCK_COUNTS = {
    "no_barrier_after_a_write": 2,
    "barriers_order_no_blocks": 2,
    "read_of_another_block": 2,
    "sum_without_atomics": 2,
}
"""By kernel: with how many blocks it is launched, if not with one."""

small_module = emulation.RawModule(
    SMALL_KERNELS_SOURCE, (), [f"{name}<{wrong}>" for name in EXPECTED_MESSAGES for wrong in (0, 1)]
)
N_ELEMENTS = 63


def launch_small_kernel(name: str, wrong: int) -> Any:
    """Launch a small kernel, and return what it leaves in its second argument and in the memory after it."""
    memory = np.zeros(N_ELEMENTS + 64, np.float32)
    arrays = normal(N_ELEMENTS).astype(np.float32), memory[:N_ELEMENTS], np.zeros(1, np.int32)
    x, y, count = map(fake_cupy.wrap, arrays)
    kernel, blocks = small_module.get_function(f"{name}<{wrong}>"), BLOCK_COUNTS.get(name, 1)
    kernel((blocks,), (64,), (x, y, np.int32(N_ELEMENTS), count))
    return memory


@pytest.mark.parametrize("name", EXPECTED_MESSAGES)
@pytest.mark.usefixtures("thread_order")
def test_what_is_right_passes_and_what_is_wrong_is_refused(name: str) -> None:
    with emulation.check_memory():
        launch_small_kernel(name, 0)
        with pytest.raises(RuntimeError, match=re.escape(EXPECTED_MESSAGES[name])) as error:
            launch_small_kernel(name, 1)
        launch_small_kernel(name, 0)
    assert str(error.value).startswith(f"{name}<1>: block (")


def test_the_names_of_all_small_kernels_are_tried() -> None:
    assert re.findall(r"^KERNEL\((\w+)\)", SMALL_KERNELS_SOURCE, re.MULTILINE) == list(EXPECTED_MESSAGES)


def test_a_fault_is_reported_with_its_line() -> None:
    with emulation.check_memory(), pytest.raises(RuntimeError, match="line") as error:
        launch_small_kernel("store_beyond_the_end", 1)
    if emulation.shutil.which("addr2line"):
        assert str(error.value).endswith(": if (t < n + WRONG) y[t] = 1;")


def test_a_write_beyond_an_array_is_not_carried_out() -> None:
    memory = np.zeros(N_ELEMENTS + 64, np.float32)
    x, y = fake_cupy.wrap(normal(N_ELEMENTS).astype(np.float32)), fake_cupy.wrap(memory[:N_ELEMENTS])
    with emulation.check_memory(), pytest.raises(RuntimeError):
        small_module.get_function("store_beyond_the_end<1>")((1,), (64,), (x, y, np.int32(N_ELEMENTS), y))
    assert not memory[N_ELEMENTS:].any()


def test_nothing_is_checked_elsewhere() -> None:
    with emulation.check_memory() as traffic:
        pass
    launch_small_kernel("written_by_two", 1)
    assert traffic == []


# Races, by the definition

SCRIPTED_KERNEL_SOURCE = """
__global__ void scripted(const int* script, int* y, int steps) {
  for (int i = 0; i < steps; i++) {
    const int* step = script + (blockIdx.x * steps + i) * 65;
    int a, what = step[threadIdx.x], sync = step[64];
    if (what == 1) a = y[0];
    if (what == 2) y[0] = 1;
    if (what == 3) atomicAdd(y, 1);
    if (sync == 1) __syncwarp();
    if (sync == 2) __syncthreads();
  }
}
"""
scripted_module = emulation.RawModule(SCRIPTED_KERNEL_SOURCE, (), ["scripted"])


def has_race(script: Any) -> bool:
    """Return whether two accesses to the one element exclude each other and nothing orders them.

    Args:
        script: (block, step, 65): whether each thread does nothing, reads, writes or updates (0 to 3), and
            how the step ends: with no barrier, one for each warp, or one for the block (0 to 2).
    """
    accesses = [(b, i, t, script[b, i, t]) for b, i, t in np.argwhere(script[:, :, :64]) if script[b, i, t]]
    for k, (b, i, t, access) in enumerate(accesses):
        for c, j, u, other_access in accesses[k + 1 :]:
            barrier = script[b, min(i, j) : max(i, j), 64].max(initial=0)
            is_ordered = b == c and (t == u or barrier == 2 or (barrier == 1 and t // 32 == u // 32))
            if not is_ordered and {access, other_access} not in ({1}, {3}):
                return True
    return False


@pytest.mark.usefixtures("thread_order")
def test_a_race_is_one_by_the_definition() -> None:
    rng, outcomes = np.random.default_rng(0), []
    some_threads = np.array([0, 1, 31, 32, 33, 63])
    for _ in range(400):
        script = np.zeros((2, 4, 65), np.int32)
        for _ in range(rng.integers(2, 5)):
            block, step = rng.integers(0, (1 + (rng.random() < 0.1), 4))
            threads = rng.choice(some_threads, rng.choice([1, 1, 3]), replace=False)
            script[block, step, threads] = rng.choice([1, 1, 1, 2, 3])
        script[:, :, 64] = rng.integers(0, 3, (2, 4))
        y = np.zeros(1, np.int32)
        with emulation.check_memory():
            try:
                kernel = scripted_module.get_function("scripted")
                kernel((2,), (64,), (fake_cupy.wrap(script), fake_cupy.wrap(y), np.int32(4)))
                is_refused = False
            except RuntimeError:
                is_refused = True
        assert is_refused == has_race(script), script.tolist()
        outcomes.append(is_refused)
    assert 80 < sum(outcomes) < 320


# Traffic

TRAFFIC_KERNELS_SOURCE = """
template <typename T> __global__ void copied(const T* x, T* y, long long n) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i];
}
template <typename T> __global__ void read_twice(const T* x, T* y, long long n) {
  SHARED(T, s, 32);
  for (int round = 0; round < 2; round++)
    for (long long i = threadIdx.x; i < n; i += blockDim.x) s[threadIdx.x] = x[i];
  y[threadIdx.x] = s[threadIdx.x];
}
template <typename T> __global__ void half_read(const T* x, T* y, long long n) {
  for (long long i = threadIdx.x; i < n / 2; i += blockDim.x) y[i] = x[0], y[i] = x[i];
}
template <typename T> __global__ void counted(const T* x, T* y, long long n) { atomicAdd((int*)y, 1); }
"""
TRAFFIC_KERNELS = ("copied", "read_twice", "half_read", "counted")
C_TYPES_BY_SIZE = {1: "char", 2: "short", 8: "double"}
traffic_module = emulation.RawModule(
    TRAFFIC_KERNELS_SOURCE, (), [f"{k}<{t}>" for k in TRAFFIC_KERNELS for t in C_TYPES_BY_SIZE.values()]
)


def measure_traffic(name: str, blocks: int, x: Any, y: Any) -> Any:
    """Launch a kernel of `TRAFFIC_KERNELS_SOURCE`, and return its traffic."""
    kernel = f"{name}<{C_TYPES_BY_SIZE[x.dtype.itemsize]}>"
    arguments = fake_cupy.wrap(x), fake_cupy.wrap(y), np.int64(x.size)
    with emulation.check_memory() as launches:
        traffic_module.get_function(kernel)((blocks,), (32,), arguments)
    (traffic,) = launches
    assert traffic.kernel == kernel
    return traffic


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float64])
def test_the_bytes_that_are_moved_are_counted(dtype: Any) -> None:
    x, y = np.ones(1000, dtype), np.zeros(1000, dtype)
    traffic = measure_traffic("copied", 32, x, y)
    assert traffic.bytes_read == traffic.distinct_bytes_read == {0: x.nbytes, 1: 0}
    assert traffic.bytes_written == traffic.distinct_bytes_written == {0: 0, 1: x.nbytes}
    assert traffic.nbytes == {0: x.nbytes, 1: x.nbytes}

    traffic = measure_traffic("read_twice", 1, x, y)
    assert (traffic.bytes_read[0], traffic.distinct_bytes_read[0]) == (2 * x.nbytes, x.nbytes)
    assert traffic.bytes_written == {0: 0, 1: 32 * x.itemsize}

    traffic = measure_traffic("half_read", 1, x, y)
    assert (traffic.bytes_read[0], traffic.distinct_bytes_read[0]) == (x.nbytes, x.nbytes // 2)
    assert (traffic.bytes_written[1], traffic.distinct_bytes_written[1]) == (x.nbytes, x.nbytes // 2)


def test_an_atomic_operation_reads_and_writes() -> None:
    x = np.zeros(1, np.float64)
    traffic = measure_traffic("counted", 2, x, x)
    # Both arguments are one array: its bytes count for the first.
    assert traffic.bytes_read == traffic.bytes_written == {0: 256, 1: 0}
    assert (traffic.distinct_bytes_read[0], traffic.distinct_bytes_written[0]) == (4, 4)


# The kernels of the backend


def collect_traffic(backend: Backend, cases: list[Case]) -> list[Any]:
    """Differentiate cases with memory checked, and return the traffic of each launch.

    Raises:
        RuntimeError: A kernel did what it must not do.
    """
    with emulation.check_memory() as traffic, backend.poisoned(), np.errstate(all="ignore"):
        for c in cases:
            differentiate(backend, c)
    return list(traffic)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_kernels_keep_within_their_arrays_and_never_race(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one order of the threads, since races do not depend on who is first; in float32 in both."""
    kernels = {name.partition("<")[0] for names in launch.KERNELS_BY_FILE.values() for name in names}
    for reverse in (False, True)[: 2 if dtype == "float32" else 1]:
        monkeypatch.setattr(emulation, "reverse_order", reverse)
        traffic = collect_traffic(cupy_backends.gpu(), [*make_large_cases(dtype), *make_small_cases(dtype)])
        assert {t.kernel.partition("<")[0] for t in traffic} == kernels
        widths = {t.kernel.split(",")[1].rstrip(">") for t in traffic if "," in t.kernel}
        assert widths >= {"1", str(launch.VECTOR_BYTES // dtype_of(dtype).itemsize)}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("fused", "shapes"),
    [
        ("bias_activation", [(70, 33), (33,)]),
        ("bias_activation", [(3, 1000), (1000,)]),
        ("multiply_add", [(150, 1), (1, 40), (1, 40)]),
        ("multiply_add", [(5, 1), (1, 1), (1, 1)]),
    ],
)
def test_what_is_fused_keeps_within_its_arrays(fused: str, shapes: list[tuple[int, ...]], dtype: str) -> None:
    with cupy_backends.replace_cupy():
        package = importlib.import_module("gradspec.backends.cupy")
    arrays = [fake_cupy.asarray(normal(*s, seed=i).astype(dtype)) for i, s in enumerate(shapes)]
    xs = [package.Tensor(x, requires_grad=True) for x in arrays]
    with emulation.check_memory() as traffic:
        y = getattr(package, fused)(*xs)
        y.backward(fake_cupy.asarray(np.ones(y.data.shape, dtype)))
    assert any(t.kernel.startswith("sums_of_table") for t in traffic)


# Planted faults

KERNELS_FOLDER = Path(str(launch.__file__)).with_name("kernels")
OPS_BY_KERNEL_FILE = {
    "common.h": ("softmax",),
    "columns.cu": ("softmax",),
    "partial.cu": ("add", "layer_norm"),
    "table.cu": ("add", "multiply"),
}
"""By file: the ops that need the barriers in it."""


def find_barriers() -> list[tuple[str, int]]:
    """Return the file and the position of each barrier in the kernels."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(KERNELS_FOLDER.iterdir())}
    barrier = re.compile(r"\b__sync\w+\([^)]*\);")
    return [(name, match.start()) for name, text in texts.items() for match in barrier.finditer(text)]


@pytest.mark.parametrize(("file", "start"), find_barriers())
def test_a_barrier_that_is_missing_is_noticed(file: str, start: int) -> None:
    """Each of them, in one order of the threads."""
    text = (KERNELS_FOLDER / file).read_text(encoding="utf-8")
    changed_text = text[:start] + text[start:].partition(";")[2]
    changes = {
        "launch.read_source": lambda name: launch.read_source(name).replace(text, changed_text),
        "sums.MAX_GRID_YZ": 1,  # so that a block takes several tables in its turn
        "sums._count_strips": lambda m, others: min(2, m),
    }
    cases = [c for c in make_large_cases("float32") if c.op.name in OPS_BY_KERNEL_FILE[file]]
    with pytest.raises(RuntimeError, match="with no barrier in between"):
        collect_traffic(cupy_backends.load_with_changes(changes), cases)


def make_source_change(before: str, after: str) -> dict[str, Callable[[str], str]]:
    """Return the change to a backend that replaces a text in some kernel."""
    assert any(before in launch.read_source(file) for file in launch.KERNELS_BY_FILE)
    return {"launch.read_source": lambda file: launch.read_source(file).replace(before, after)}


TAIL_LOOP, INDEX_EXPRESSION = "for (; at < n; at++) y[at]", "((i64)blockIdx.x * blockDim"
FAULTS: dict[str, tuple[str, Callable[[], dict[str, Any]], str]] = {
    "a load beyond the end that is thrown away": (
        "tanh", lambda: make_source_change(TAIL_LOOP, f"T unused = x[n];\n{TAIL_LOOP}"),
        "reads 4 bytes at byte 3600 of argument 0",
    ),
    "a store beyond the end": (
        "tanh", lambda: make_source_change(TAIL_LOOP, f"y[n] = T();\n{TAIL_LOOP}"),
        "writes 4 bytes at byte 3600 of argument 1",
    ),
    "a store beyond the end of a row": (
        "softmax",
        lambda: make_source_change(
            "put<T, V>(row + index(k * V), pack)", "put<T, V>(row + index(k * V) + V, pack)",
        ),
        "writes 16 bytes at byte 3600 of argument 1",
    ),
    "an element that two blocks write": (
        "tanh", lambda: make_source_change(INDEX_EXPRESSION, "((i64)(blockIdx.x / 2) * blockDim"),
        "blocks have no order",
    ),
    "shared scratch that is too small": (
        "softmax", lambda: make_source_change("SHARED(A, scratch, 128)", "SHARED(A, scratch, 1)"),
        "which has 4 bytes",
    ),
    "scratch that is too small": (
        "layer_norm", lambda: {"rows.wide_dtype": lambda dtype: np.dtype(np.float16)},
        "float16 of shape (3, 2), which has 12 bytes",
    ),
    "a vector load off its place": (
        "softmax", lambda: {"rows.choose_vector_width": lambda n, *arrays: 4},
        "which does not lie at a multiple of 16 bytes",
    ),
}  # fmt: skip
"""By name: an op whose cases must reveal it, what is changed, and the message."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_access_is_refused(fault: str) -> None:
    op, make_changes, message = FAULTS[fault]
    cases = [c for c in make_large_cases("float32") if c.op.name == op]
    with pytest.raises(RuntimeError, match=re.escape(message)):
        collect_traffic(cupy_backends.load_with_changes(make_changes()), cases)


# Passes over the memory

ROWS, COLUMNS = 20, 304
TABLE, TARGETS = normal(ROWS, COLUMNS), np.arange(ROWS)
ReadsAndWrites = tuple[int, int]
EXPECTED_PASSES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], ReadsAndWrites, ReadsAndWrites]] = {
    "tanh": ("tanh", (TABLE,), {}, (1, 1), (2, 1)),
    "softmax": ("softmax", (TABLE,), {}, (1, 1), (2, 1)),
    "log_softmax": ("log_softmax", (TABLE,), {}, (1, 1), (2, 1)),
    "softmax of columns": ("softmax", (TABLE,), {"axis": 0}, (2, 1), (4, 1)),
    "cross_entropy": ("cross_entropy", (TABLE, TARGETS), {}, (1, 1), (1, 1)),
    "cross_entropy as a loss": ("cross_entropy", (TABLE, TARGETS), {"cotangent": 1}, (1, 1), (0, 0)),
    "layer_norm": ("layer_norm", (TABLE, normal(COLUMNS), normal(COLUMNS)), {}, (1, 1), (2, 1)),
    "add": ("add", (TABLE, normal(ROWS, COLUMNS, seed=1)), {}, (2, 1), (0, 0)),
    "a row added": ("add", (TABLE, normal(COLUMNS)), {}, (1, 1), (1, 0)),
    "a column times a row": ("multiply", (normal(ROWS, 1), normal(1, COLUMNS)), {}, (0, 1), (1, 0)),
}
"""By name: an op, its inputs and options, and (reads, writes) of the forward and the backward pass.

They are counted in passes over arrays as large as the result, or as the table that it is made from, for rows
that one block can hold. A backward pass that reads x once and g once reads 2.
"""
BACKWARD_KERNEL_PREFIXES = (
    "pull_of", "softmax_backward", "cross_entropy_backward", "layer_norm_backward", "sums_of_table",
    "sum_over",
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", EXPECTED_PASSES)
def test_passes_over_the_memory(name: str, dtype: str) -> None:
    op, inputs, keywords, forward, backward = EXPECTED_PASSES[name]
    nbytes = ROWS * COLUMNS * dtype_of(dtype).itemsize
    bytes_read, bytes_written = {False: 0, True: 0}, {False: 0, True: 0}
    is_backward = False
    for t in collect_traffic(cupy_backends.gpu(), [make_case(op, dtype, *inputs, **keywords)]):
        is_backward = is_backward or t.kernel.startswith(BACKWARD_KERNEL_PREFIXES)
        whole = [i for i, size in t.nbytes.items() if size == nbytes]
        bytes_read[is_backward] += sum(t.bytes_read[i] for i in whole)
        bytes_written[is_backward] += sum(t.bytes_written[i] for i in whole)
    # Rounded, since cross_entropy reads the element of x at each target once more.
    passes = [(round(bytes_read[back] / nbytes, 1), bytes_written[back] / nbytes) for back in (False, True)]
    assert passes == [forward, backward]


def test_targets_that_are_no_classes_are_no_race() -> None:
    backend = cupy_backends.gpu()
    x, target = backend.from_numpy(TABLE.astype(np.float32)), backend.from_numpy(np.full(ROWS, COLUMNS))
    with emulation.check_memory():
        loss = backend.ops["cross_entropy"](x, target)
    with pytest.raises(ValueError, match="classes"):
        backend.to_numpy(loss)
