"""Variants pass on a few cases of every property; `make sensitivity` tries them on many."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gradspec.properties.judging.judge import ComputationJudge
from tests.faults import alarms, drawn_cases, judge_cache, right
from tests.faults.alarms import TrialResult, list_trials, run_trial
from tests.faults.fault import Array, RuleResult
from tests.faults.registry import faults, right_variants

VARIANT_KINDS = {
    right.KIND_SUBGRADIENT,
    right.KIND_ORDER,
    right.KIND_FORMULA,
    right.KIND_LAYOUT,
    right.KIND_WIDER,
}


@pytest.fixture(autouse=True)
def few_examples_and_one_judge_of_each(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(drawn_cases.SETTINGS_OVERRIDES, "max_examples", 2)
    monkeypatch.setattr(ComputationJudge, "__init__", ComputationJudge.__init__)
    judge_cache.share_measures()
    drawn_cases.clear_cache()
    yield
    drawn_cases.clear_cache()
    judge_cache.clear_cache()


def run_trials(name: str, op: str) -> list[TrialResult]:
    return [run_trial(trial, seed=1) for trial in list_trials(name, op)]


def test_there_are_variants_of_every_kind() -> None:
    assert {variant.kind for variant in right_variants().values()} == VARIANT_KINDS
    assert len(right_variants()) >= 100


def test_variants_have_names_of_their_own() -> None:
    assert len(right_variants()) == len(right.VARIANTS)


@pytest.mark.rotating
@pytest.mark.parametrize("op", sorted({variant.op for variant in right_variants().values()}))
def test_what_is_right_but_different_passes(op: str) -> None:
    names = [name for name, variant in right_variants().items() if variant.op == op]
    results = [result for name in names for result in run_trials(name, op)]
    assert sum(result.judged_cases for result in results) > 0
    assert not [(result.trial, result.alarm) for result in results if result.alarm]


def test_what_is_wrong_raises_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = faults()["relu: the gradient is doubled"].plant()
    monkeypatch.setattr(alarms, "load_backend_or_variant", lambda _: wrong)
    results = {result.trial.property: result for result in run_trials("relu: doubled", "relu")}
    alarm = results["test_every_gradient_agrees"].alarm
    assert alarm
    assert "the gradient of x" in alarm
    assert "Case.of(" in alarm


def test_a_variant_refuses_what_the_spec_refuses() -> None:
    def sum_of_whatever(x: Array, *, axis: Any = None, keepdims: bool = False) -> RuleResult:
        return x.sum(), (lambda g: g,)

    right.right_rule("sum", right.KIND_FORMULA)(sum_of_whatever)
    variant = right.VARIANTS.pop()
    with pytest.raises(IndexError):
        variant.plant().ops["sum"](alarms.load_backend_or_variant("numpy").from_numpy(np.ones(1)), axis=3)
