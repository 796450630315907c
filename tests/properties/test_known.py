"""Entries of `known`: they call a law as a failure does, and one that never applies is told."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradspec.backends.backend as backend_module
from gradspec.backends import load
from gradspec.backends.backend import DTYPES, Deviation
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.running.known import find_stale_deviations, find_unreachable_deviations
from gradspec.properties.running.list_laws import read_laws
from gradspec.properties.running.tally import PropertyResult, Tally
from gradspec.reference import OPS, VJP
from tests.helpers.planting import make_backend_of_rules
from tests.helpers.pytest_runs import ROOT, copy_properties, run_properties

DIVIDE_SOURCE = """
from dataclasses import replace
from gradspec.backends import load
from gradspec.reference import record

right = load("numpy")


@record
def divide(x, y):
    return x / y, (lambda g: g / y, lambda g: -g * x / (y * y))


backend = replace(right, name="mine", ops={"divide": divide}, known=KNOWN)
"""


@pytest.mark.rotating
def test_the_sentence_that_a_failure_prints_is_the_one_to_declare(tmp_path: Path) -> None:
    properties = copy_properties(tmp_path, "test_extremes.py", "test_layouts.py", "test_second_order.py")
    options = ("--backend=mine:backend", "--no-isolate", "--hypothesis-profile=default")
    known: dict[str, str] = {}
    for status in (1, 0):
        (tmp_path / "mine.py").write_text(f"KNOWN = {known}\n{DIVIDE_SOURCE}", encoding="utf-8")
        run = run_properties(
            tmp_path, *options, "--matrix=matrix.json", "--junitxml=junit.xml", properties=properties
        )
        assert run.status == status, run.output
        results = json.loads((tmp_path / "matrix.json").read_text(encoding="utf-8"))
        junit = (tmp_path / "junit.xml").read_text(encoding="utf-8")
        printed = {
            law
            for laws in re.findall(r"(?:breaks a law|also breaks): (.*)", run.output)
            for law in laws.split("; ")
        }
        rows = {line[: len(law)] for line in run.output.splitlines() for law in printed}
        assert printed <= rows
        assert printed <= {entry["law"] for entry in results["entries"]}
        assert printed <= {law for group in read_laws() for law in group.own_faults}
        assert all(f"test_{law.replace(' ', '_')}[divide-mine]" in junit for law in printed)
        known |= {f"divide: {law}": "squares" for law in printed}
    assert len(known) == 2
    assert "2 xfailed" in run.output


TWO_DTYPES_SOURCE = """
from dataclasses import replace
from gradspec.backends import load

right = load("numpy")


def tanh(x):
    return 1.5 * right.ops["tanh"](x) if x.dtype in WRONG_IN else right.ops["tanh"](x)


backend = replace(
    right,
    name="mine",
    ops={"tanh": tanh},
    known={"tanh[float64]: value agrees": "a bug", "tanh[float32]: value agrees": "another"},
)
"""


@pytest.mark.rotating
@pytest.mark.parametrize(
    ("wrong_in", "status", "stale"),
    [("float64 float32", 0, ""), ("float64", 1, "float32"), ("float32", 1, "float64")],
)
def test_each_entry_of_several_applies_or_is_told(
    tmp_path: Path, wrong_in: str, status: int, stale: str
) -> None:
    source = f"WRONG_IN = {wrong_in.split()}\n{TWO_DTYPES_SOURCE}"
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    options = ("--backend=mine:backend", "--no-isolate", "--hypothesis-profile=default")
    run = run_properties(tmp_path, *options, properties=copy_properties(tmp_path, "test_value.py"))
    assert run.status == status, run.output
    assert "1 xfailed" in run.output
    assert re.findall(r"error  mine: tanh\[(\w+)\].* agreed in every case", run.output) == [stale] * bool(
        stale
    )


def make_result(law: str, outcome: str, op: str = "tanh", **deviations: bool) -> PropertyResult:
    named = {name.replace("_", " "): shows for name, shows in deviations.items()}
    tally = Tally(100, 100, deviations={f"{op}: {name}": shows for name, shows in named.items()})
    return PropertyResult(f"test_{law}", op, "mine", outcome, tally)


VALUE = {"mine": [Deviation.parse("tanh: value agrees", "why")]}


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([make_result("value_agrees", "passed", value_agrees=False)], ["agreed in every case"]),
        ([make_result("value_agrees", "declined", value_agrees=False)], ["every case was declined"]),
        ([make_result("value_agrees", "known", value_agrees=True)], []),
        ([make_result("value_agrees", "failed")], []),  # before it was searched for
        ([make_result("value_agrees", "failed", value_agrees=False)], ["agreed in every case"]),
        ([make_result("value_agrees", "passed")], []),  # in none of the dtypes of the run
        ([make_result("a_batch_equals_its_members", "passed")], []),
    ],
)
def test_an_entry_that_was_searched_for_and_never_showed_is_stale(
    results: list[PropertyResult], words: list[str]
) -> None:
    complaints = find_stale_deviations(results, VALUE)
    assert len(complaints) == len(words)
    assert all(word in complaint for word, complaint in zip(words, complaints, strict=True))


@pytest.mark.parametrize(
    ("known", "laws", "words"),
    [
        (["tanh: value agrees"], ["value agrees"], []),
        (["tanh: calls leave no trace"], ["value agrees", "calls leave no trace"], ["not asked of tanh"]),
        (["tanh: calls leave no trace"], ["value agrees"], []),  # not part of this run
        (["exp: calls leave no trace"], ["calls leave no trace"], []),  # nor this
        (["tanh", "tanh: value agrees"], ["value agrees"], ["'tanh', which stands before it"]),
        (["tanh[float32]", "tanh: value agrees"], ["value agrees"], []),
        (["tanh: value agrees", "tanh[float32]"], ["value agrees"], []),
    ],
)
def test_an_entry_that_no_run_can_come_to_is_told(
    known: list[str], laws: list[str], words: list[str]
) -> None:
    results = [make_result("value_agrees", "known")]
    deviations = {"mine": [Deviation.parse(where, "why") for where in known]}
    complaints = find_unreachable_deviations(results, deviations, laws)
    assert len(complaints) == len(words)
    assert all(word in complaint for word, complaint in zip(words, complaints, strict=True))


ASKED_SOURCE = """
from dataclasses import replace
from gradspec.backends import load

right = load("numpy")
ops = {"tanh": right.ops["tanh"]}
KINKS = "gradient at kinks is a legal subgradient"
backend = replace(right, name="mine", ops=ops, nests=False, known=KNOWN)
"""


@pytest.mark.rotating
def test_a_law_that_a_backend_is_not_asked_has_a_dash_and_an_entry_of_it_is_told(tmp_path: Path) -> None:
    properties = copy_properties(tmp_path, "test_second_order.py", "test_kinks.py", "test_value.py")
    options = ("--backend=mine:backend", "--op=tanh", "--no-isolate")
    (tmp_path / "mine.py").write_text(ASKED_SOURCE.replace("KNOWN", "{}"), encoding="utf-8")
    run = run_properties(tmp_path, *options, properties=properties)
    assert run.status == 0, run.output
    assert re.search(r"^gradient at kinks is a legal subgradient +–$", run.output, re.MULTILINE), run.output
    assert re.search(r"^second derivatives agree +–$", run.output, re.MULTILINE), run.output
    known = '{f"tanh: {KINKS}": "why"}'
    (tmp_path / "mine.py").write_text(ASKED_SOURCE.replace("KNOWN", known), encoding="utf-8")
    run = run_properties(tmp_path, *options, properties=properties)
    assert run.status == 1
    assert "this law is not asked of tanh: remove it from `known`" in run.output


def read_documentation(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_form_of_an_entry_in_the_documents_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "version", lambda _: "0.12")
    (block,) = re.findall(r"```text\nop \[dtypes\].*?```", read_documentation("backends.md"), re.DOTALL)
    entries = re.findall(r'^"([^"]+)"  ', block, re.MULTILINE)
    entries += re.findall(r'several are "([^"]+)"', block)
    parsed = {entry: Deviation.parse(entry, "why") for entry in entries}
    assert len(parsed) == 7
    laws = {law for group in read_laws() for law in group.own_faults}
    for entry, deviation in parsed.items():
        assert deviation.op in OPS, entry
        assert deviation.law in {"", *laws}, entry
        assert ("[" in entry) == bool(deviation.dtypes), entry
        assert deviation.dtypes <= {*DTYPES}, entry
    assert parsed["softmax[float16] (jax<0.13)"].is_of_this_version
    assert not parsed["exp (torch>=2.10,<2.13): value agrees"].is_of_this_version


def test_kernels_declare_what_they_get_wrong_as_the_documents_show() -> None:
    pytest.importorskip("torch")
    (code,) = re.findall(r"```python\n(backend = load.*?)```", read_documentation("backends.md"), re.DOTALL)
    names: dict[str, Any] = {"load": load, "my_softmax": lambda x, *, axis=-1: x}
    exec(code, names)
    backend = names["backend"]
    (deviation,) = backend.deviations
    assert deviation.law in {law for group in read_laws() for law in group.own_faults}
    assert [d.op for d in backend.declared_declines] == ["softmax"]


def tanh_without_a_square(x: Any) -> VJP:
    y = np.tanh(x)
    return y, (lambda g: g * (1 - y),)


@pytest.mark.parametrize(("x", "verdict"), [(1.75, "lossy"), (0.5, "disagree"), (-2, "disagree")])
def test_in_16_bits_half_of_a_small_gradient_may_be_lost(x: float, verdict: str) -> None:
    """So docs/failures.md says of tanh, and that a wrong formula is found elsewhere."""
    backend = replace(make_backend_of_rules(tanh=tanh_without_a_square), dtypes=frozenset({"bfloat16"}))
    judgement = judge_case(every_gradient_agrees, backend, Case.of("tanh", "bfloat16", [[x]], {}, [1]))
    assert judgement.verdict == verdict
    if verdict == "lossy":
        assert judgement.wrong is not None
        assert 0.4 < judgement.wrong.got / judgement.wrong.expected < 0.6


NOTHING_DRAWN_SOURCE = """
from hypothesis import given
from hypothesis import strategies as st


@given(data=st.data())
def test_nothing_is_found_to_ask(op_under_test, data):
    data.draw(st.none())
"""


def test_a_law_of_whose_op_no_case_is_found_has_a_dash(tmp_path: Path) -> None:
    (tmp_path / "properties").mkdir()
    (tmp_path / "properties" / "test_nothing.py").write_text(NOTHING_DRAWN_SOURCE, encoding="utf-8")
    run = run_properties(tmp_path, "--backend=numpy", "--op=tanh", properties="properties")
    assert run.status == 0, run.output
    assert re.search(r"^nothing is found to ask +–$", run.output, re.MULTILINE), run.output
    assert re.search(r"^tanh +–$", run.output, re.MULTILINE), run.output
