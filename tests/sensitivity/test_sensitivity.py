"""The measurement of sensitivity: sharing changes nothing, tolerances reach every law, engines are tried."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gradspec.properties.cases.case import Case
from gradspec.properties.judging import judge
from gradspec.properties.judging.judge import ComputationJudge, Judge
from gradspec.properties.laws import batches, extremes, kinks, tensor_like_torch
from gradspec.reference import no_grad
from tests.faults import drawn_cases, judge_cache, measurement, tolerance_curves
from tests.faults.collected_properties import properties
from tests.faults.detection import detect_fault
from tests.faults.engines import make_engine_faults
from tests.faults.fault import Fault
from tests.faults.measurement import OpTask
from tests.faults.registry import faults
from tests.faults.tolerance_curves import Tolerance, measure_points, use_tolerance
from tests.helpers.pytest_runs import ROOT


@pytest.fixture
def measure_sharing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ComputationJudge, "__init__", ComputationJudge.__init__)
    judge_cache.share_measures()
    yield
    judge_cache.clear_cache()
    drawn_cases.clear_cache()


FAULTS_OF_ONE_OP = [
    "tanh: the gradient is doubled",
    "tanh: the gradient is slightly too large",
    "tanh: the call writes to its first array",
    "tanh: tanh is a quotient of exponentials",
]


def test_what_is_shared_changes_no_outcome(measure_sharing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    together = [detect_fault(faults()[name], seed=1) for name in [*FAULTS_OF_ONE_OP, *FAULTS_OF_ONE_OP]]
    monkeypatch.undo()
    alone = [detect_fault(faults()[name], seed=1) for name in FAULTS_OF_ONE_OP]
    assert together == [*alone, *alone]
    assert all(alone)


def test_judges_share_what_they_know_of_equal_cases_alone(measure_sharing: None) -> None:
    def case(x: float, g: float) -> Judge:
        return Judge(Case.of("tanh", "float32", [[x]], {}, [g]))

    first = case(0.5, 1)
    first.compute_samples(8)
    assert case(0.5, 1).formulas is first.formulas
    assert case(0.5, 2).formulas is not first.formulas
    assert case(0.25, 1).formulas is not first.formulas


def test_keywords_tell_cases_apart(measure_sharing: None) -> None:
    x = np.arange(4.0)
    whole, part = (Judge(Case.of("getitem", "float64", [x], {"key": k}, x)) for k in (slice(4), slice(0, 4)))
    assert whole.formulas is not part.formulas


def test_a_tolerance_reaches_every_law_and_goes_again() -> None:
    with use_tolerance(Tolerance(factor=7, copies=4)):
        assert {m.ALLOWED_FACTOR for m in (judge, batches, kinks, tensor_like_torch)} == {7}
        assert {m.JITTERED_COPY_COUNTS for m in (judge, batches, extremes)} == {(2, 4, 4)}
    assert {m.ALLOWED_FACTOR for m in (judge, batches, kinks, tensor_like_torch)} == {Tolerance().factor}


def test_wide_tolerances_let_slight_faults_through_and_no_gross_ones() -> None:
    slight, gross = "tanh: the gradient is slightly too large", "tanh: the gradient is negated"
    tolerances = [Tolerance(factor=4), Tolerance(factor=1e14)]
    narrow, wide = measure_points(OpTask("tanh", 1, [slight, gross], []), tolerances)
    assert narrow.survivors == []
    assert wide.survivors == [slight]


def test_alarms_come_of_narrow_tolerances(monkeypatch: pytest.MonkeyPatch) -> None:
    tolerances = [Tolerance(factor=1e-9, copies=1), Tolerance()]
    narrow, usual = measure_points(OpTask("tanh", 1, [], ["numpy"]), tolerances)
    assert any("numpy | tanh | test_value_agrees" in alarm for alarm in narrow.alarms)
    assert usual.alarms == []
    assert usual.runs == narrow.runs > 5


def test_the_settings_in_use_are_on_the_curves() -> None:
    assert all(Tolerance() in tolerances for tolerances in tolerance_curves.TOLERANCES_OF_EACH_CURVE)


@pytest.mark.parametrize("fault", [*make_engine_faults()], ids=repr)
def test_faults_of_engines_are_found_by_the_property_for_them(fault: Fault) -> None:
    detection = detect_fault(fault, seed=2)
    assert detection
    assert detection.property == fault.likely


def test_a_spoilt_engine_is_mended_again() -> None:
    for fault in make_engine_faults():
        with fault.spoil_spec():
            pass
    with no_grad():
        pass
    assert not find_alarms_of_spec_engine()


def find_alarms_of_spec_engine() -> list[str]:
    """Return the properties that fail on the unmodified spec, compared with torch."""
    part = measurement.run_task(OpTask("programs", 1, [], ["torch"]))
    return [result.trial.property for result in part.trial_results if result.alarm]


def test_the_command_measures_what_it_is_asked_for(tmp_path: Path) -> None:
    options = "--op sign --seeds 2 --first-seed 3 --cases 1 --backend numpy --processes 1 --json summary.json"
    run = subprocess.run(
        [sys.executable, "-m", "tests.faults", *options.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["rate by seed"]) == ["3", "4"]
    assert {fault["op"] for fault in summary["by fault"]} == {"sign"}
    assert 0 < summary["judged cases of unmodified backends"] < 2_000
    assert summary["false alarms"] == []


def test_a_trial_leaves_no_seed_behind() -> None:
    assert detect_fault(faults()["tanh: gradients of float32 are float64"], 1)
    tests = [test for test in properties().values() if hasattr(test, "hypothesis")]
    assert not any(getattr(test, "_hypothesis_internal_use_seed", None) for test in tests)
