"""`worst` says how near right results come to what is allowed, by all of the noise, and not near 1 anyway."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, load
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import run_spec
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.judging.judge import (
    ALLOWED_FACTOR,
    JITTERED_COPY_COUNTS,
    Judge,
    Judgement,
    ulp,
)
from gradspec.properties.judging.noise_stages import measure_noise_fully
from gradspec.properties.judging.own_process import Lost, judge_lost_check
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.perform_property import measures_margin
from gradspec.properties.running.tables import format_tables
from gradspec.properties.running.tally import PropertyResult, Tally
from gradspec.properties.running.targets import N_NEAREST_CASES, BackendUnderTest, OpUnderTest
from gradspec.reference import OPS
from tests.faults.collected_properties import properties
from tests.helpers.planting import make_backend_of_ops

ALL_COPIES = JITTERED_COPY_COUNTS[-1]


def make_variance_case(dtype: str = "float32") -> Case:
    return Case.of("var", dtype, [1000 + np.arange(6.0)], {}, 1.0)


def judge_fully(judge: Judge, got: Any) -> Judgement:
    with measure_noise_fully():
        return judge.judge_value(np.asarray(got))


@pytest.mark.parametrize("share", [0.125, 0.5, 0.875])
def test_the_margin_is_the_share_of_what_all_noise_allows(share: float) -> None:
    case = make_variance_case("float64")
    judge = Judge(case)
    exact = judge.exact.value
    noise = judge.measure_noise(lambda r: r.value, ALL_COPIES)
    off = share * ALLOWED_FACTOR * (noise + ulp(exact, np.dtype(np.float64)))
    margin = judge_fully(Judge(case), (exact + off).astype(np.float64)).worst
    assert margin == pytest.approx(share, abs=0.01)


def test_a_right_result_lies_near_1_only_as_long_as_little_noise_is_measured() -> None:
    case = make_variance_case()
    judge = Judge(case)
    unit = np.spacing(np.float32(judge.exact.value))
    got = np.float32(judge.exact.value) + 3 * unit
    staged = judge.judge_value(np.asarray(got)).worst
    assert 0.6 < staged <= 1
    assert len(judge.formulas.sampler._samples) == 0
    assert judge_fully(judge, got).worst < staged / 3
    assert len(judge.formulas.sampler._samples) == 1 + ALL_COPIES


def test_verdicts_are_the_same_by_all_of_the_noise() -> None:
    case = make_variance_case()
    exact = run_spec(case).value
    for factor, verdict in (
        (1, "agree"),
        (1 + 2**-20, "agree"),
        (1.001, "disagree"),
        (2, "disagree"),
        (0, "disagree"),
    ):
        got = np.asarray(exact * np.float32(factor))
        assert judge_fully(Judge(case), got).verdict == Judge(case).judge_value(got).verdict == verdict, (
            factor
        )


def test_a_lossy_result_is_lossy_by_all_of_the_noise() -> None:
    case = Case.of("tanh", "float64", [[20.0]], {}, [1])
    with measure_noise_fully():
        judgement = Judge(case).judge_gradient("x", np.zeros(1))
    assert judgement.verdict == "lossy"
    assert judgement.worst <= 1


# Which cases are judged once more


def test_the_nearest_cases_alone_are_judged_once_more() -> None:
    seen: list[float] = []

    def judge_case(law: Any, backend: Backend, case: Any) -> Judgement:
        seen.append(case)
        return Judgement("agree", worst=case / 10 if len(seen) > 6 else case)

    target = BackendUnderTest(backend=load("numpy"), dtypes=["float64"], judge_case=judge_case)
    for case in (0.5, 0.0, 0.9, 0.25, 0.75, 0.625):
        target.check_law(value_agrees, case)
    target.measure_margin()
    assert seen[6:] == [0.9, 0.75][:N_NEAREST_CASES]
    assert target.tally.margin == pytest.approx(0.09)
    assert target.tally.judged == 6


def test_what_is_not_offered_has_no_margin() -> None:
    target = BackendUnderTest(backend=load("numpy"), dtypes=["float64"], tally=Tally(judged=9, declined=9))
    target.measure_margin()
    assert target.tally.margin is None


def test_a_case_that_was_further_off_than_the_margin_is_not_judged_once_more() -> None:
    calls: list[float] = []

    def judge_case(law: Any, backend: Backend, case: Any) -> Judgement:
        calls.append(case)
        return Judgement("agree", worst=case)

    target = BackendUnderTest(backend=load("numpy"), dtypes=["float64"], judge_case=judge_case)
    for case in (0.5, 0.9):
        target.check_law(value_agrees, case)
    target.measure_margin()
    assert calls == [0.5, 0.9, 0.9]


@pytest.mark.parametrize(
    "again", [Judgement("agree", worst=np.inf), Judgement("disagree", "raised ValueError", raised=True)]
)
def test_a_backend_that_is_wrong_or_raises_the_second_time_has_the_margin_that_it_had(
    again: Judgement,
) -> None:
    judgements = iter([Judgement("agree", worst=0.5), again])

    def judge_case(law: Any, backend: Backend, case: Any) -> Judgement:
        return next(judgements)

    target = BackendUnderTest(backend=load("numpy"), dtypes=["float64"], judge_case=judge_case)
    target.check_law(value_agrees, None)
    target.measure_margin()
    assert target.tally.margin == 0.5


def raise_always(*_: Any) -> Any:
    raise ValueError


def judge_variance_by(vjp: Any) -> Judgement:
    backend = replace(load("numpy"), vjp=vjp)
    return judge_case(every_gradient_agrees, backend, make_variance_case("float64"))


@pytest.mark.parametrize(
    "judgement",
    [
        judge_variance_by(raise_always),
        judge_variance_by(lambda fn, *xs: ("no array", raise_always)),
        judge_lost_check(Lost("exited with status 3", "died", b"a check"), 1.0),
    ],
)
def test_what_gives_no_numbers_has_no_worst(judgement: Judgement) -> None:
    tally = Tally()
    tally.add(judgement, "raises")
    assert tally.largest_error is None
    lines = format_tables([PropertyResult("test_x", "var", "mine", "failed", tally, "raises")], 100)
    assert next(line.plain for line in lines if "var" in line.plain).split() == ["var", "↯", "1", "100%", "-"]


def test_a_wrong_number_beside_exceptions_is_the_worst() -> None:
    tally = Tally()
    for judgement in (Judgement("disagree", "raised", raised=True), Judgement("disagree", worst=np.inf)):
        tally.add(judgement, "wrong")
    assert tally.largest_error == np.inf


def test_the_margin_of_a_real_op_is_below_what_was_measured_at_first() -> None:
    backend = make_backend_of_ops({"var": OPS["var"].apply})
    target = OpUnderTest(name="var", op=OPS["var"], backend=backend, dtypes=["float32"])
    for seed in range(30):
        x = np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32)
        target.check_law(value_agrees, Case.of("var", "float32", [x], {"axis": -1}, np.ones(3)))
    target.measure_margin()
    assert target.tally.margin is not None
    assert 0 < target.tally.margin < target.tally.worst / 2


def test_the_properties_of_values_gradients_and_programs_measure_it() -> None:
    marked = {name for name, test in properties().items() if measures_margin(test)}
    assert marked == {
        "test_value_agrees",
        "test_every_gradient_agrees",
        "test_every_gradient_of_a_program_agrees",
    }


# What is shown


@pytest.mark.parametrize(
    ("tally", "shown"),
    [
        (Tally(9, 9, 0, worst=0.99, margin=0.07), "0.07"),
        (Tally(9, 9, 0, worst=0.99), "-"),
        (Tally(9, 9, 0, worst=2.5, margin=0.07), "2.50"),
        (Tally(9, 9, 0, worst=0.99, margin=0.07) + Tally(9, 9, 0, worst=0.5), "0.07"),
        (Tally(9, 9, 0, worst=0.99, margin=0.07) + Tally(9, 9, 0, worst=0.5, margin=0.125), "0.12"),
    ],
)
def test_the_table_shows_the_margin_or_what_is_wrong(tally: Tally, shown: str) -> None:
    entries = [PropertyResult("test_value_agrees", "exp", "numpy", "passed", tally)]
    (row,) = (line.plain for line in format_tables(entries, 100) if line.plain.startswith("exp "))
    assert row.split()[-1] == shown
