"""Tests of the benchmarks: every op has them, wrong results get no time, and counts are right."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from asv_runner.benchmarks.mark import SkipNotImplemented
from asv_runner.discovery import disc_benchmarks

from asv_bench import accuracy, costs, ops
from asv_bench.measuring import result_check, undisturbed_time
from asv_bench.measuring.allocations import count_allocations
from asv_bench.measuring.numerical_errors import measure_worst_error
from asv_bench.measuring.op_costs import count_calls
from asv_bench.tools.gate import find_grown_costs, is_explained
from asv_bench.workloads import ops_and_backends
from asv_bench.workloads.calls import ELEMENTS_BY_SIZE, SIZES, is_contraction, make_arrays, make_typical_call
from gradspec.backends import load
from gradspec.backends.loading import BUILT_IN
from gradspec.reference import OPS, Tensor
from gradspec.reference import op as declare_op
from gradspec.reference.domains import Real, below
from gradspec.timing.right_results import WrongResult
from tests.helpers.planting import make_backend_of_rules
from tests.helpers.pytest_runs import ROOT, make_environment

BENCHMARKS_OF_EACH_OP = {
    ops: ("time_forward", "time_backward"),
    accuracy: ("track_worst_error",),
    costs: ("track_calls", "track_arrays", "track_bytes", "track_peak"),
}


@pytest.fixture(scope="module")
def benchmark_names() -> set[str]:
    """The names of all benchmarks that asv finds."""
    return {benchmark.name for benchmark in disc_benchmarks(str(ops_and_backends.ROOT / "asv_bench"))}


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_its_benchmarks(op: str, benchmark_names: set[str]) -> None:
    expected = {
        f"{module.__name__.partition('.')[2]}.{op}.{name}"
        for module, names in BENCHMARKS_OF_EACH_OP.items()
        for name in names
    }
    assert expected <= benchmark_names, f"asv does not find {sorted(expected - benchmark_names)}"


def test_only_the_modules_at_the_top_hold_benchmarks(benchmark_names: set[str]) -> None:
    """A function of measuring/ or workloads/ with a name such as `time_...` would be one, too."""
    modules = {path.stem for path in (ROOT / "asv_bench").glob("*.py")} - {"__init__"}
    assert {name.partition(".")[0] for name in benchmark_names} == modules


def test_only_ops_are_taken_for_ops() -> None:
    assert ops_and_backends.list_declared_ops() == tuple(sorted(OPS))


def test_every_backend_has_its_place() -> None:
    assert set(BUILT_IN) <= set(ops_and_backends.BACKENDS)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("size", SIZES)
def test_a_typical_call_is_one_of_the_op_and_of_its_size(op: str, size: str) -> None:
    spec = OPS[op]
    call = make_typical_call(spec, size)
    inputs = make_arrays(spec, call, "float32", seed=0)
    assert max(x.size for x in inputs) <= ELEMENTS_BY_SIZE[size] * 2
    if size != "memory":
        value, _ = spec.rule(*inputs, **call.keywords)
        assert np.all(np.isfinite(value))


def test_products_are_told_from_what_reads_each_element_once() -> None:
    assert {name for name, op in OPS.items() if is_contraction(op)} == {"einsum", "linear", "matmul"}


def test_a_fault_in_a_benchmark_is_reported_by_its_name(tmp_path: Path) -> None:
    plugin = """
        from asv_bench import costs

        def track_calls(self, direction):
            return None if direction == "forward" else 1 / 0

        costs.tanh.track_calls = track_calls
        costs.exp.track_calls = lambda self, direction: float("nan")
    """
    (tmp_path / "planted_benchmarks.py").write_text(dedent(plugin))
    module = ROOT / "tests" / "asv_bench" / "every_benchmark.py"
    command = [sys.executable, "-m", "pytest", str(module), "-p", "planted_benchmarks"]
    chosen = "costs.tanh or costs.exp.track_calls or costs.argmax.track_calls"
    process = subprocess.run(
        [*command, "-q", "--tb=line", "--everything", "-k", chosen],
        cwd=ROOT,
        env=make_environment() | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    failures = [line for line in process.stdout.splitlines() if line.startswith("FAILED")]
    assert {line.split("[")[1].split("]")[0] for line in failures} == {
        f"costs.{op}.track_calls({d})" for op in ("tanh", "exp") for d in ("forward", "backward")
    }
    assert "7 passed, 1 skipped" in process.stdout
    assert "ZeroDivisionError" in process.stdout


def test_what_is_absent_is_not_measured() -> None:
    with pytest.raises(SkipNotImplemented, match="spec has no"):
        ops_and_backends.get_op("no_such_op")
    with pytest.raises(SkipNotImplemented, match="cupy"):
        ops_and_backends.get_backend("cupy")


def test_a_wrong_gradient_is_not_timed() -> None:
    wrong = make_backend_of_rules(tanh=lambda x: (np.tanh(x), (lambda g: g * (1 - np.tanh(x)),)))
    with pytest.raises(WrongResult, match="gradient of x"):
        result_check.require_right_result(wrong, OPS["tanh"], "overhead")
    result_check.require_right_result(load("numpy"), OPS["tanh"], "overhead")


def test_an_error_is_in_units_of_what_is_allowed() -> None:
    assert measure_worst_error(load("numpy"), OPS["tanh"], "float32") < 1
    off = make_backend_of_rules(
        tanh=lambda x: (np.tanh(x) * np.float32(1 + 1e-4), (lambda g: g * (1 - np.tanh(x) ** 2),))
    )
    assert measure_worst_error(off, OPS["tanh"], "float32") > 10


def test_arrays_are_counted_with_their_bytes() -> None:
    x = np.ones(1000)
    with count_allocations() as stats:
        y = x * x + x  # the product is freed before the zeros are allocated
        z = np.zeros(10)
    assert (stats.array_count, stats.total_nbytes, stats.peak_nbytes) == (3, 16_080, 16_000)
    with count_allocations() as stats:
        assert y[1:].sum() + z.reshape(2, 5).ndim > 0
    assert stats.total_nbytes < 100


def test_arrays_outlive_the_count() -> None:
    with count_allocations():
        arrays = [np.arange(n) for n in range(100)]
    assert [len(x) for x in arrays] == [*range(100)]


def test_calls_are_counted() -> None:
    def make_three_calls() -> int:
        return len([abs(-1)])

    assert count_calls(make_three_calls) == 3


def test_what_is_counted_is_the_same_each_time() -> None:
    for op in ("layer_norm", "getitem", "add"):
        for direction in ("forward", "backward"):
            bench: Any = getattr(costs, op)()
            first = [getattr(bench, name)(direction) for name in BENCHMARKS_OF_EACH_OP[costs]]
            assert first == [getattr(bench, name)(direction) for name in BENCHMARKS_OF_EACH_OP[costs]]


def test_the_gate_lets_pass_what_is_explained() -> None:
    before = {"tanh backward bytes": 100, "tanh forward bytes": 100, "gone forward calls": 1}
    after = {"tanh backward bytes": 120, "tanh forward bytes": 105, "new forward calls": 9}
    assert find_grown_costs(before, after) == ["tanh backward bytes"]
    assert is_explained("tanh backward bytes", "A subject\n\nCosts: tanh backward, which now stores 1 - y\n")
    assert not is_explained("tanh forward bytes", "Costs: tanh backward, which now stores 1 - y\n")
    assert not is_explained("tanh backward bytes", "a tanh backward that Costs: nothing")


def test_a_ratio_is_that_of_the_work() -> None:
    """Measured by a clock that counts calls, so that no machine can be too slow for it."""
    now = 0.0

    def advance_clock(seconds: float) -> None:
        nonlocal now
        now += seconds

    ratio = undisturbed_time.measure_ratio(
        lambda: advance_clock(3e-3), lambda: advance_clock(1e-3), lambda: now
    )
    assert ratio == pytest.approx(3)


def test_what_was_first_measured_on_a_busy_machine_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undisturbed_time, "UNDISTURBED_TIMES_FILE", tmp_path / "of asv" / "undisturbed.json")
    # As where figures are asked for, whatever the environment.
    monkeypatch.setattr(undisturbed_time, "SLICE_SECONDS", 1e-4)
    for seconds in (2e-6, 3e-6, 1e-6, 0.99e-6):  # busy, busier, undisturbed, and as fast as noise makes it
        undisturbed_time.save_faster_multiplication_time("numpy cache", seconds)
    assert undisturbed_time.load_multiplication_times() == {"numpy cache": 1e-6}
    monkeypatch.setattr(undisturbed_time, "make_multiplication", lambda backend, size: lambda: None)
    monkeypatch.setattr(undisturbed_time, "IS_QUICK_RUN", False)
    undisturbed_time.measure_seconds(lambda: None, load("numpy"), "cache")
    renewed = undisturbed_time.load_multiplication_times()["numpy cache"]
    assert renewed < 0.9e-6, "a benchmark has seen faster ones and stored none"
    assert [file.name for file in undisturbed_time.UNDISTURBED_TIMES_FILE.parent.iterdir()] == [
        "undisturbed.json"
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc's malloc")
def test_memory_lies_alike_in_each_process() -> None:
    script = """
        import sys
        from resource import RUSAGE_SELF, getrusage
        import numpy as np
        from asv_bench.measuring.memory_placement import fix_memory_placement

        def faults():
            start = getrusage(RUSAGE_SELF).ru_minflt
            for _ in range(20):
                np.ones(2**22, np.float32) * 2  # two arrays of 16 MiB
            return getrusage(RUSAGE_SELF).ru_minflt - start

        before = faults()
        old_array = np.ones(2**14, np.float32)
        fix_memory_placement("cache")
        faults()
        addresses = [(np.ones(2**14 + i, np.float32) * 2).ctypes.data for i in range(100)]
        print(before, faults(), sum(a % 4096 for a in addresses), np.zeros(4000).sum() + old_array[0])
    """
    command = [sys.executable, "-c", dedent(script)]
    process = subprocess.run(command, cwd=ROOT, env=make_environment(), capture_output=True, check=True)
    faults_before, faults_after, off_the_page, one = map(float, process.stdout.split())
    assert (off_the_page, one) == (0, 1)
    # An array has eight pages, if they are of 2 MiB.
    assert faults_after < 20 < faults_before


def test_a_device_is_waited_for() -> None:
    waits = []
    backend = load("numpy").with_ops(name="device", tanh=np.tanh)
    object.__setattr__(backend, "device", "cuda")
    object.__setattr__(backend, "synchronize", lambda: waits.append(True))
    time = undisturbed_time.make_clock(backend)
    assert time() <= time()
    assert len(waits) == 2


def test_counting_does_not_change_what_is_computed() -> None:
    x = Tensor(np.ones(100), requires_grad=True)
    with count_allocations():
        OPS["tanh"].apply(x).backward(np.ones(100))
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.data, 1 - np.tanh(1) ** 2)


@pytest.mark.usefixtures("restored_registry")
def test_an_op_in_which_nothing_broadcasts_has_its_sizes() -> None:
    def scale(x: Real, weight: Real, index: below("n")) -> Any:  # type: ignore[valid-type]
        return x * weight * index.astype(x.dtype)

    declared = declare_op("(*b,n),(n),(n)->(*b,n)")(scale)
    for size, elements in ELEMENTS_BY_SIZE.items():
        call = make_typical_call(declared, size)
        x, weight, index = make_arrays(declared, call, "float32", seed=0)
        assert x.ndim == 2
        assert elements / 2 <= x.size <= elements
        assert x.shape[1:] == weight.shape == index.shape
        assert 0 <= index.min() <= index.max() < x.shape[1]
