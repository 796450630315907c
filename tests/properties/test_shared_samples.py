"""Judges of equal cases share what the spec gives; what each says depends on no other."""

from dataclasses import replace

import numpy as np
import pytest

from gradspec.properties.cases.case import Case
from gradspec.properties.judging import shared_samples
from gradspec.properties.judging.judge import Judge
from gradspec.properties.judging.shared_samples import SharedSamples

CASE = Case.of("softmax", "float16", [[1, 2, 3]], {"axis": -1}, [1, 2, 3])

OTHERS = {
    "op": replace(CASE, op=Case.of("log_softmax", "float16", [[1, 2, 3]], {"axis": -1}, [1, 2, 3]).op),
    "dtype": Case.of("softmax", "float32", [[1, 2, 3]], {"axis": -1}, [1, 2, 3]),
    "input": Case.of("softmax", "float16", [[1, 2, 4]], {"axis": -1}, [1, 2, 3]),
    "sign of zero": Case.of("softmax", "float16", [[1, 2, 3]], {"axis": -1}, [1, 2, -0.0]),
    "keyword": Case.of("softmax", "float16", [[1, 2, 3]], {"axis": 0}, [1, 2, 3]),
    "shape": Case.of("softmax", "float16", [[[1, 2, 3]]], {"axis": -1}, [[1, 2, 3]]),
}


def test_equal_cases_share_in_whatever_layouts() -> None:
    with SharedSamples().use_for("subject"):
        first = Judge(CASE)
        assert Judge(replace(CASE, layouts=("F", "reversed"))).formulas is first.formulas


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_cases_share_nothing(other: Case) -> None:
    zero = Case.of("softmax", "float16", [[1, 2, 3]], {"axis": -1}, [1, 2, 0])
    with SharedSamples().use_for("subject"):
        before = [Judge(CASE).formulas, Judge(zero).formulas]
        assert not any(Judge(other).formulas is formulas for formulas in before)


def test_nothing_is_shared_outside_or_with_another_subject() -> None:
    shared = SharedSamples()
    with shared.use_for("subject"):
        first = Judge(CASE).formulas
    assert Judge(CASE).formulas is not first
    with shared.use_for("subject"):
        assert Judge(CASE).formulas is first
    with shared.use_for("another"):
        assert Judge(CASE).formulas is not first


def test_a_judge_knows_of_no_copies_that_it_has_not_asked_for() -> None:
    # The largest number of a sum is that of the copies so far: more of them get nearer to overflow.
    case = Case.of("sum", "float16", [[200, 100, 3]], {}, 1)
    alone = Judge(case)
    alone.compute_samples(2)
    with SharedSamples().use_for("subject"):
        Judge(case).compute_samples(64)
        beside = Judge(case)
        assert beside.samples.peak == 0
        beside.compute_samples(2)
    assert beside.samples.peak == alone.samples.peak < max(s.peak for s in beside.formulas.sampler._samples)
    assert beside.samples.trough == alone.samples.trough


def test_the_oldest_samples_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_samples, "MAX_ELEMENTS_SHARED", 12)
    cases = [Case.of("exp", "float64", [np.full(3, k)], {}, [1, 1, 1]) for k in range(3)]
    with SharedSamples().use_for("subject"):
        first, second, _ = (Judge(case).formulas for case in cases)
        assert Judge(cases[1]).formulas is second
        assert Judge(cases[0]).formulas is not first
