"""The base of benchmarks for asv: what asv finds in a subclass, and what it gets from it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asv_runner.benchmarks.mark import SkipNotImplemented
from asv_runner.discovery import disc_benchmarks

from gradspec.timing.asv import OpBenchmark
from gradspec.timing.calls import SIZES
from gradspec.timing.cells import NotTimed
from tests.helpers.planting import make_backend_of_rules
from tests.helpers.pytest_runs import ROOT
from tests.timing.test_right_results import tanh_rule


def test_the_suite_of_the_documents_is_the_one_of_the_example() -> None:
    documented = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    suite = (ROOT / "examples" / "asv_suite" / "benchmarks" / "__init__.py").read_text(encoding="utf-8")
    _, _, code = suite.partition('"""\n\n')
    assert len([line for line in code.splitlines() if line]) == 3
    assert f"```python\n{code}```" in documented


class Softmax(OpBenchmark):
    op, backend, against, seconds = "softmax", "torch", ("numpy",), 0.001


def set_up(benchmark: type[OpBenchmark], *parameters: str) -> Any:
    instance = benchmark()
    instance.setup(*parameters)
    return instance


def test_asv_finds_the_benchmarks_of_a_subclass_and_none_of_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the base is imported by its name, as in every suite."""
    (tmp_path / "suite_of_one").mkdir()
    (tmp_path / "suite_of_one" / "__init__.py").write_text(
        "from gradspec.timing.asv import OpBenchmark\n"
        "class Silu(OpBenchmark):\n"
        "    op, backend, against = 'silu', 'no_such_module:backend', ('torch',)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = {benchmark.name: benchmark for benchmark in disc_benchmarks(str(tmp_path / "suite_of_one"))}
    assert {*found} == {
        f"Silu.{name}"
        for name in ("time_forward", "time_backward", "track_forward_ratio", "track_backward_ratio")
    }
    sizes, beside = [*map(repr, SIZES)], ["'spec'", "'torch'"]
    assert found["Silu.time_forward"].params == [sizes]
    assert found["Silu.track_forward_ratio"].params == [sizes, beside]
    assert all(benchmark.check(str(tmp_path)) for benchmark in found.values())


def test_a_time_is_that_of_one_call() -> None:
    benchmark = set_up(Softmax, "overhead")
    before = benchmark.timer()
    benchmark.time_backward("overhead")
    assert 1e-7 < benchmark.timer() - before < 0.1


@pytest.mark.parametrize("beside", ["spec", "numpy"])
def test_a_ratio_comes_with_its_samples(beside: str) -> None:
    result = set_up(Softmax, "overhead", beside).track_forward_ratio("overhead", beside)
    assert len(result["samples"]) >= 7
    assert all(0 < ratio < 100 for ratio in result["samples"])


def make_benchmark(op: str, backend: str, *against: str) -> type[OpBenchmark]:
    return type("Planted", (OpBenchmark,), {"op": op, "backend": backend, "against": against})


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that has a backend with a wrong tanh."""
    module = ModuleType("planted_kernels")
    module.backend = make_backend_of_rules(tanh=tanh_rule(lambda d: 2 * d))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "planted_kernels", module)
    return "planted_kernels:backend"


def test_a_wrong_op_has_no_time(planted: str) -> None:
    with pytest.raises(NotTimed, match="at size cache, the gradient of x"):
        set_up(make_benchmark("tanh", planted), "cache")


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (("exp", "{planted}"), "{planted} does not offer exp"),
        (("tanh", "cupy"), "cupy: no CUDA"),
        (("tanh", "torch", "{planted}"), "at size overhead, the gradient of x"),
        (("exp", "torch", "{planted}"), "{planted} does not offer exp"),
    ],
)
def test_what_cannot_be_measured_is_not_applicable(
    planted: str, parameters: Sequence[str], reason: str
) -> None:
    """That is what asv makes of a NotImplementedError in `setup`."""
    op, backend, *against = (text.format(planted=planted) for text in parameters)
    with pytest.raises(NotImplementedError, match=reason.format(planted=planted)):
        set_up(make_benchmark(op, backend, *against), "overhead", *against)


def test_an_op_without_a_gradient_has_no_backward_pass() -> None:
    benchmark = set_up(make_benchmark("argmax", "numpy"), "overhead")
    benchmark.time_forward("overhead")
    with pytest.raises(SkipNotImplemented, match="argmax is not differentiable"):
        benchmark.time_backward("overhead")
