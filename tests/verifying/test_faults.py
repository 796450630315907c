"""Which faults `gradspec.verify` finds, which it tells first, and what finding them costs."""

import inspect
import itertools
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

import gradspec
from gradspec.properties.running.tally import to_sentence
from gradspec.properties.verifying import laws_of_one, shared_cases
from gradspec.properties.verifying.laws_of_one import ALL_LAWS, LEFT_OUT
from gradspec.properties.verifying.request import Request
from tests.faults.collected_properties import properties

torch = pytest.importorskip("torch")

from tests.verifying import norms  # noqa: E402 - needs torch
from tests.verifying.functions import fail, fault_in  # noqa: E402


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_right_passes(seed: int) -> None:
    report = gradspec.verify(norms.right, norms.rms_norm, seed=seed)
    assert (report.op, report.backend) == ("tests.verifying.norms:rms_norm", "torch")
    assert report.dtypes == ("float64", "float32", "bfloat16", "float16")
    assert report.cases > 150
    assert report.informative > 0.7
    assert report.margin is not None
    assert report.margin < 1
    assert (report.lossy, report.declined) == (0, 0)
    assert {"every gradient agrees", "cases of many elements agree", "rare cases agree"} < {*report.laws}


@pytest.mark.parametrize("seed", [0, pytest.param(7, marks=pytest.mark.rotating)])
@pytest.mark.parametrize("fault", norms.FAULTS)
def test_a_planted_fault_is_found(fault: str, seed: int) -> None:
    text = fail(norms.FAULTS[fault], norms.rms_norm, seed=seed)
    assert text.startswith("wrong  tests.verifying.norms:rms_norm on rms_norm_of_torch (cpu) breaks a law: ")
    if fault == "the cotangent is read as contiguous":
        assert "layout of cotangent" in text


@pytest.mark.parametrize(
    "laws",
    [
        "calls leave no trace",
        "second derivatives agree",
        "shapes and dtypes are kept",
        "other arguments may be constants",
    ],
)
def test_a_fault_that_one_kind_of_law_sees_is_found(laws: str) -> None:
    fn, name = fault_in(laws)
    assert f"breaks a law: {laws}" in fail(fn, name, dtypes=["float64", "float32"])


def test_what_overflows_on_the_way_is_found_at_the_edge() -> None:
    def softmax(x: Any, *, axis: int = -1) -> Any:
        return torch.exp(x) / torch.exp(x).sum(axis, keepdim=True)

    text = fail(softmax, "softmax", dtypes=["float32"])
    assert re.match(r"(edge|wrong)  softmax on softmax \(cpu\) breaks a law: ", text)


def test_a_wrong_number_is_told_before_what_is_wrong_at_the_edge() -> None:
    def log(x: Any) -> Any:
        return torch.where(x > 1e10, torch.zeros_like(x), torch.log(x) * torch.where(x == 0.5, 2.0, 1.0))

    assert fail(log, "log", dtypes=["float64"]).startswith("wrong  log")


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (lambda x, **_: x * torch.sigmoid(1.702 * x), "gelu"),
        (lambda x: 0.5 * x, "silu"),
        (lambda x: x * x * x, "square"),
    ],
)
def test_a_wrong_value_is_told_as_one_though_zeros_show_only_its_second_derivatives(
    fn: Callable[..., Any], name: str
) -> None:
    """Value and gradient of these agree at zero, which the first example drawn is made of."""
    text = fail(fn, name, dtypes=["float64"])
    assert "breaks a law: value agrees" in text
    assert "the value is " in text


def test_an_exception_is_a_failure() -> None:
    def tanh(x: Any) -> Any:
        if x.ndim == 3:
            raise RuntimeError("no kernel of three axes")
        return torch.tanh(x)

    text = fail(tanh, "tanh")
    assert text.startswith("raises  tanh on tanh (cpu) breaks a law")
    assert "no kernel of three axes" in text


def test_once_a_law_has_failed_it_alone_is_shrunk_and_then_the_plainest_are_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, bool]] = []
    judge = shared_cases.OpUnderOneTest._judge_with_new_seed

    def note(self: Any, law: Callable[..., Any], case: Any) -> Any:
        judgement = judge(self, law, case)
        asked.append((law.__name__, judgement.verdict == "disagree"))
        return judgement

    monkeypatch.setattr(shared_cases.OpUnderOneTest, "_judge_with_new_seed", note)
    fail(norms.FAULTS["the cotangent is read as contiguous"], norms.rms_norm, dtypes=["float64"])
    first = next(k for k, (_, failed) in enumerate(asked) if failed)
    assert {law for law, _ in asked[:first]} > {"every_gradient_agrees"}
    afterwards = [law for law, _ in asked[first:]]
    shrunk = [*itertools.takewhile("layout_makes_no_difference".__eq__, afterwards)]
    assert len(shrunk) > 10
    assert {*afterwards[len(shrunk) :]} == {"value_agrees", "every_gradient_agrees"}


def test_every_property_of_an_op_is_asked_or_said_to_be_left_out() -> None:
    of_ops = {n for n, test in properties().items() if "op_under_test" in inspect.signature(test).parameters}
    left_out = {n for n in of_ops if any(text.startswith(to_sentence(n)) for text in LEFT_OUT)}
    assert of_ops - left_out == {*ALL_LAWS.list_names()}
    assert left_out == {"test_what_the_spec_refuses_raises"}
    for text in LEFT_OUT:
        assert text.split(":")[0] in [to_sentence(name) for name in properties()]


# What it costs


@pytest.mark.rotating
def test_a_run_costs_as_much_as_a_few_hundred_judgements() -> None:
    """In processor time, beside that of gradients judged one by one; three quarters of what is allowed."""

    def measure(work: Callable[[], object]) -> float:
        begin = time.process_time()
        work()
        return time.process_time() - begin

    def judge_gradients() -> None:
        drawn = laws_of_one.Laws(laws_of_one.PROPERTIES[:1])
        request = Request(norms.right, norms.rms_norm, None, "torch", True, None, None, None, 0, "", "")
        laws_of_one.judge(request, drawn, 30)

    def find_fault() -> None:
        fail(norms.FAULTS["16 bits are added up in 16 bits"], norms.rms_norm)

    judge_gradients()
    one = min(measure(judge_gradients) for _ in range(3))
    right = min(measure(lambda: gradspec.verify(norms.right, norms.rms_norm, seed=0)) for _ in range(3))
    assert right < 6 * one
    assert measure(find_fault) < 4 * right + 1
