"""Severity: what a failure does to a user, told of each; no kind of failure hides behind another."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend
from gradspec.properties import laws
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.programs import Program
from gradspec.properties.drawing.hypothesis_internals import set_global_seed
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.judging.judgement import Judgement, combine_judgements
from gradspec.properties.judging.process_server import CrashOrTimeout
from gradspec.properties.judging.severity import (
    DEFAULT_FAILING_SEVERITIES,
    SEVERITIES,
    classify_severity,
    is_ordinary,
)
from gradspec.properties.laws.bad_input import what_the_spec_refuses_raises
from gradspec.properties.laws.depth import Chain, a_chain_of_any_length_is_differentiated
from gradspec.properties.laws.extremes import extremes_go_where_the_spec_says
from gradspec.properties.laws.kinks import gradient_at_kinks_is_a_legal_subgradient
from gradspec.properties.laws.layouts import layout_makes_no_difference
from gradspec.properties.laws.purity import calls_leave_no_trace
from gradspec.properties.laws.second_order import second_derivatives_agree
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running import options
from gradspec.properties.running.failure import Law, LawViolation
from gradspec.properties.running.perform_property import perform_property
from gradspec.properties.running.targets import OpUnderTest
from gradspec.reference import OPS, VJP
from tests.faults.collected_properties import properties
from tests.helpers.planting import make_backend_of_rules
from tests.helpers.pytest_runs import PytestRun, run_properties, run_script

LAW_MODULES = [module.name for module in iter_modules(laws.__path__)]


@pytest.mark.parametrize("name", LAW_MODULES)
def test_every_law_declares_what_its_violation_is(name: str) -> None:
    declared = vars(import_module(f"{laws.__name__}.{name}")).get("SEVERITY")
    assert declared in set(SEVERITIES) - {"raises", "lossy"}, "these two only a judgement can tell"


# Which severity a violation has

WRONG, RAISED = Judgement("disagree", "wrong"), Judgement("disagree", "raised", raised=True)
CRASHED = CrashOrTimeout("disagree", "the process was killed by SIGSEGV", worst=np.inf)
ORDINARY = Case.of("divide", "float32", [[1.0, -3e5], [2.0, 1e-3]], {}, [1, 0])
EDGES = {
    "empty": Case.of("sum", "float32", [np.empty((0, 3))], {}, 1.0),
    "empty value": Case.of("getitem", "float64", [[1.0]], {"key": slice(0, 0)}, []),
    "nan": Case.of("exp", "float32", [[1.0, np.nan]], {}, [1, 1]),
    "inf in bfloat16": Case.of("exp", "bfloat16", [[np.inf]], {}, [1]),
    "huge": Case.of("exp", "float32", [[1e20]], {}, [1]),
    "tiny": Case.of("exp", "float64", [[1e-170]], {}, [1]),
    "outside the domain": Case.of("log", "float64", [[-1.0]], {}, [1]),
    "a hole of the domain": Case.of("divide", "float64", [[1.0], [0.0]], {}, [1]),
    "cotangent": Case.of("exp", "float64", [[1.0]], {}, [np.inf]),
    "a value that overflows": Case.of("exp", "float32", [[1.0, 200.0]], {}, [1, 1]),
    "a value that overflows in float16": Case.of("prod", "float16", [[200, 200, 200]], {}, 1),
    "a gradient of NaN": Case.of("var", "float64", [[1.0, 1.0]], {"correction": 2}, 1),
    "an infinite gradient": Case.of("var", "float64", [[1.0, 2.0]], {"correction": 2.5}, 1),
}


@pytest.mark.parametrize("case", EDGES.values(), ids=EDGES)
def test_a_case_with_an_extreme_number_or_an_empty_array_is_at_the_edge(case: Case) -> None:
    assert not is_ordinary(case)
    assert classify_severity(value_agrees, case, WRONG) == "edge"
    assert classify_severity(value_agrees, case, RAISED) == "edge"
    assert classify_severity(calls_leave_no_trace, case, WRONG) == "unsafe"


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_case_of_usual_numbers_is_ordinary(dtype: str) -> None:
    for numbers in ([0.0, 1.0, -3.5], [200.0, 0.01], [-0.0]):
        assert is_ordinary(Case.of("tanh", dtype, [numbers], {}, np.ones(len(numbers))))
    assert is_ordinary(Case.of("var", dtype, [[1.0, 2.0]], {"correction": 1.5}, 1))
    assert is_ordinary(Program(dtype, 0, (((1, 1), "real", 0),), (("sin", (-1,), {}),)))
    target = Case.of("cross_entropy", dtype, [[[1.0, 2.0]], [1]], {}, 1.0)
    assert is_ordinary(target)


ON_KINK = Case.of("relu", "float64", [[0.0, 1.0]], {}, [1, 1])


def square_of(x: float) -> Case:
    return Case.of("square", "float64", [[x]], {}, [1])


@pytest.mark.parametrize(
    ("law", "case", "judgement", "severity"),
    [
        (value_agrees, ORDINARY, WRONG, "wrong"),
        (value_agrees, ORDINARY, RAISED, "raises"),
        (value_agrees, ORDINARY, CRASHED, "unsafe"),
        (value_agrees, ORDINARY, Judgement("lossy"), "lossy"),
        (value_agrees, ORDINARY, Judgement("agree"), None),
        (value_agrees, ORDINARY, Judgement("undecidable"), None),
        (value_agrees, ON_KINK, WRONG, "wrong"),  # 0 is an ordinary number for a value
        (layout_makes_no_difference, ORDINARY, WRONG, "wrong"),
        (layout_makes_no_difference, ORDINARY, CRASHED, "unsafe"),
        (gradient_at_kinks_is_a_legal_subgradient, ON_KINK, WRONG, "edge"),
        (gradient_at_kinks_is_a_legal_subgradient, ON_KINK, RAISED, "edge"),
        (extremes_go_where_the_spec_says, ORDINARY, WRONG, "wrong"),  # seen there, but not of extremes alone
        (extremes_go_where_the_spec_says, EDGES["nan"], WRONG, "edge"),
        (calls_leave_no_trace, ORDINARY, WRONG, "unsafe"),
        (calls_leave_no_trace, ORDINARY, RAISED, "raises"),
        (a_chain_of_any_length_is_differentiated, Chain("float64"), RAISED, "raises"),
        (a_chain_of_any_length_is_differentiated, Chain("float64"), WRONG, "wrong"),
        (what_the_spec_refuses_raises, ORDINARY, RAISED, "raises"),
        (what_the_spec_refuses_raises, EDGES["empty"], RAISED, "edge"),
        *((second_derivatives_agree, square_of(x), WRONG, "edge") for x in (3e77, -1.3e-121)),
        *((second_derivatives_agree, square_of(x), RAISED, "edge") for x in (3e77, -1.3e-121)),
        *((second_derivatives_agree, square_of(x), WRONG, "wrong") for x in (3e76, -1e-76, 0.0)),
        *((value_agrees, square_of(x), WRONG, "wrong") for x in (3e77, -1.3e-121)),
        (lambda _, case: WRONG, ORDINARY, WRONG, "wrong"),  # a law of somebody else's
    ],
)
def test_the_severity_is_that_of_law_case_and_judgement(
    law: Law, case: Any, judgement: Judgement, severity: str | None
) -> None:
    assert classify_severity(law, case, judgement) == severity


def linear_that_broadcasts_its_bias(x: Any, weight: Any, bias: Any = None) -> VJP:
    bias = bias if bias is None else np.broadcast_to(bias, weight.shape[:1])
    return OPS["linear"].rule(x, weight, bias)


def test_what_bad_input_meets_is_lax_or_raises() -> None:
    bad = Case.of("linear", "float64", [[[1.0]], [[1.0], [2.0]], [1.0]], {}, [[1.0, 1.0]])
    judgement = judge_case(what_the_spec_refuses_raises, plant(linear=linear_that_broadcasts_its_bias), bad)
    assert classify_severity(what_the_spec_refuses_raises, bad, judgement) == "lax"

    def raise_always(x: Any) -> VJP:
        raise ArithmeticError

    good = Case.of("exp", "float64", [[1.0]], {}, [1.0])
    judgement = judge_case(what_the_spec_refuses_raises, plant(exp=raise_always), good)
    assert classify_severity(what_the_spec_refuses_raises, good, judgement) == "raises"


def test_a_result_of_a_wrong_kind_is_wrong_and_raises_nothing() -> None:
    case = Case.of("exp", "float64", [[1.0]], {}, [1.0])
    judgement = judge_case(value_agrees, plant(exp=lambda x: (None, (lambda g: g,))), case)
    assert classify_severity(value_agrees, case, judgement) == "wrong"


def test_of_several_parts_the_severity_stays() -> None:
    lax = Judgement("disagree", "lax", severity="lax")
    assert combine_judgements([Judgement("agree"), lax]).severity == "lax"
    assert combine_judgements([Judgement("agree"), RAISED]).raised


@pytest.mark.parametrize(
    ("op", "rule", "inputs", "reason"),
    [
        ("relu", lambda x: (np.maximum(np.nan_to_num(x), 0), (lambda g: g,)), [[1.0, np.nan]], "NaN of x"),
        (
            "add",
            lambda x, y: (np.nan_to_num(x + y), (lambda g: g, lambda g: g)),
            [[np.nan], [2.0, np.nan]],
            "NaN of x and y",
        ),
        ("sum", lambda x, **_: (np.nansum(x), (lambda g: g + 0 * x,)), [[0.0, np.nan]], "NaN of x"),
        (
            "sign",
            lambda x: (np.sign(np.nan_to_num(x)), None),
            [[1.0, np.nan]],
            "NaN of x",
        ),  # it has no gradient
    ],
)
def test_a_nan_that_becomes_a_number_is_told_in_words(
    op: str, rule: Callable[..., VJP], inputs: list[Any], reason: str
) -> None:
    case = Case.of(op, "float64", inputs, {}, 1.0 if op == "sum" else [1.0, 1.0])
    judgement = judge_case(extremes_go_where_the_spec_says, plant(**{op: rule}), case)
    assert judgement.verdict == "disagree"
    assert f": a {reason} became 0" in judgement.reason or f": a {reason[:8]} became" in judgement.reason
    assert classify_severity(extremes_go_where_the_spec_says, case, judgement) == "edge"


# Failures of different kinds of one property


def plant(**rules: Callable[..., VJP]) -> Backend:
    return make_backend_of_rules(**rules)


def matmul_that_forgets_to_transpose(x: Any, y: Any) -> VJP:
    """Silently wrong for (2, 2) @ (2,); raises for (1, 2) @ (2,), where shapes do not fit."""
    value, pulls = OPS["matmul"].rule(x, y)
    assert isinstance(pulls, tuple)
    return value, (pulls[0], lambda g: x @ g) if (x.ndim, y.ndim) == (2, 1) else pulls


def perform(property_name: str, target: OpUnderTest, **settings: Any) -> LawViolation:
    set_global_seed(0)
    try:
        with pytest.raises(LawViolation) as caught:
            perform_property(
                properties()[property_name],
                {"op_under_test": target},
                target,
                property_name,
                profile={"database": None, **settings},
            )
    finally:
        set_global_seed(None)
    return caught.value


def make_target(backend: Backend, **more: Any) -> OpUnderTest:
    (name,) = backend.ops
    more = {"failing_severities": DEFAULT_FAILING_SEVERITIES, **more}
    return OpUnderTest(name=name, op=OPS[name], backend=backend, dtypes=["float64"], **more)


def test_a_wrong_number_does_not_hide_behind_an_exception() -> None:
    violation = perform(
        "test_every_gradient_agrees", make_target(plant(matmul=matmul_that_forgets_to_transpose))
    )
    assert violation.severity == "wrong"
    x, y = violation.case.inputs  # type: ignore[attr-defined]
    assert (x.shape, y.shape) == ((y.size, y.size), (y.size,))  # where shapes fit that should not
    assert 2 <= y.size <= 3
    (other,) = violation.others
    assert other.severity == "raises"
    assert "raised ValueError" in other.judgement.reason
    assert [x.shape for x in other.case.inputs] == [(1, 2), (2,)]  # type: ignore[attr-defined]


def exp_that_is_wrong_and_raises_when_empty(x: Any) -> VJP:
    if not x.size:
        raise ZeroDivisionError
    return np.exp(x), (lambda g: 2 * g * np.exp(x),)


def test_an_ordinary_number_that_is_wrong_does_not_become_an_edge() -> None:
    violation = perform(
        "test_every_gradient_agrees", make_target(plant(exp=exp_that_is_wrong_and_raises_when_empty))
    )
    assert (violation.severity, violation.judgement.raised) == ("wrong", False)
    assert [(v.severity, v.judgement.raised) for v in violation.others] == [("edge", True)]


def test_what_is_wrong_everywhere_is_told_once() -> None:
    violation = perform(
        "test_extremes_of_elementwise_ops_go_where_the_spec_says",
        make_target(plant(exp=lambda x: (np.exp(x), (lambda g: 2 * g * np.exp(x),)))),
    )
    assert violation.severity == "wrong"
    assert not violation.others


def test_simpler_values_keep_the_kind_of_a_failure() -> None:
    target = make_target(plant(tanh=OPS["tanh"].rule))
    case = Case.of("tanh", "float64", [[0.731, 1.318]], {}, [0.917, 1.213])

    def law(_: Any, case: Case) -> Judgement:
        return RAISED if case.inputs[0][1] == 0 else WRONG

    with pytest.raises(LawViolation):
        target.check_law(law, case)
    violation = target.simplify_failure()
    assert violation is not None
    assert violation.severity == "wrong"
    assert violation.case.inputs[0].tolist() == [0, 1]  # type: ignore[attr-defined]


def test_a_simpler_case_may_show_that_it_is_worse_than_an_edge() -> None:
    target = make_target(plant(tanh=OPS["tanh"].rule))
    with pytest.raises(LawViolation) as caught:
        target.check_law(lambda _, case: WRONG, Case.of("tanh", "float64", [[np.inf]], {}, [1]))
    assert caught.value.severity == "edge"
    simpler = target.simplify_failure()
    assert simpler is not None
    assert simpler.severity == "wrong"


def linear_that_is_lax_and_refuses_batches(x: Any, weight: Any, bias: Any = None) -> VJP:
    if x.ndim > 2:
        raise NotADirectoryError
    return linear_that_broadcasts_its_bias(x, weight, bias)


def test_what_does_not_fail_does_not_end_the_search() -> None:
    target = make_target(plant(linear=linear_that_is_lax_and_refuses_batches))
    violation = perform("test_what_the_spec_refuses_raises", target)
    assert violation.severity == "raises"
    assert not violation.others
    assert target.listed["lax"].judgement.reason.startswith("nothing was raised")
    assert target.tally.violations["lax"] > 0


def test_what_is_asked_for_fails() -> None:
    lax = make_target(
        plant(linear=linear_that_broadcasts_its_bias), failing_severities=frozenset({"lax", "wrong"})
    )
    assert perform("test_what_the_spec_refuses_raises", lax, max_examples=100).severity == "lax"
    assert not lax.listed


# The option


@pytest.mark.parametrize(
    ("text", "severities"),
    [
        ("wrong,edge,unsafe", DEFAULT_FAILING_SEVERITIES),
        ("wrong,lossy", {"wrong", "raises", "lossy"}),
        ("raises", {"raises"}),
        (" edge , lax", {"edge", "lax"}),
    ],
)
def test_the_option_names_what_fails(text: str, severities: set[str]) -> None:
    config: Any = SimpleNamespace(getoption=lambda _: text)
    assert options.get_failing_severities(config) == severities


@pytest.mark.parametrize("text", ["", "wrng", "wrong,lacks", "disagree"])
def test_another_name_is_refused_with_the_nearest(text: str) -> None:
    config: Any = SimpleNamespace(getoption=lambda _: text)
    with pytest.raises(pytest.UsageError, match=r"no such severity.*(did you mean|there are)"):
        options.get_failing_severities(config)


# What a run shows

BACKEND_SOURCE = """
from dataclasses import replace
import numpy as np
from gradspec.backends import load
from gradspec.reference import record

right = load("numpy")

def matmul(x, y):
    z, pulls = right.ops["matmul"].rule(x, y)
    return z, (pulls[0], lambda g: x @ g) if (x.ndim, y.ndim) == (2, 1) else pulls

def linear(x, weight, bias=None):
    bias = bias if bias is None else np.broadcast_to(bias, weight.shape[:1])
    return right.ops["linear"].rule(x, weight, bias)

def relu(x):
    y, pulls = right.ops["relu"].rule(x)
    return np.where(np.isnan(x), 0, y).astype(x.dtype), pulls

ops = {"matmul": record(matmul), "linear": record(linear), "relu": record(relu)}
backend = replace(right, name="mine", ops=ops)
known = replace(backend, known={"linear: what the spec refuses raises": "its bias broadcasts"})
"""
PROPERTIES = "gradient_agrees or (the_spec_refuses and linear) or extremes_of_elementwise"


def run(folder: Path, name: str, *arguments: str) -> PytestRun:
    (folder / "mine.py").write_text(BACKEND_SOURCE, encoding="utf-8")
    fixed = (f"--backend=mine:{name}", "--dtype=float64", "--hypothesis-profile=default", "--matrix=m.json")
    return run_properties(folder, *fixed, "--junitxml=j.xml", "-k", PROPERTIES, *arguments)


def read_matrix(run: PytestRun) -> Any:
    return json.loads((run.folder / "m.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=["--isolate", "--no-isolate"])
def faulty_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PytestRun:
    return run(tmp_path_factory.mktemp("severities"), "backend", request.param)


@pytest.mark.rotating("severities run")
@pytest.mark.xdist_group("severities run")
def test_the_worst_come_first_and_each_with_its_script(faulty_run: PytestRun) -> None:
    assert faulty_run.status == 1
    section = faulty_run.output.split("what disagrees")[1].split("= gradspec")[0]
    titles = [line for line in section.split("\n") if "breaks a law: " in line]
    assert titles == [
        "wrong  matmul on mine (cpu) breaks a law: every gradient agrees",
        "raises  matmul on mine (cpu) breaks a law: every gradient agrees",
        "edge  relu on mine (cpu) breaks a law: extremes of elementwise ops go where the spec says",
    ]
    assert "became 0" in section
    assert section.count("reproduce: python") == 3
    assert len(faulty_run.failure_scripts) == 4  # with that of what is lax
    for script in faulty_run.failure_scripts:
        finished = run_script(script, faulty_run.folder)
        assert (finished.returncode, finished.stderr) == (1, ""), script


@pytest.mark.rotating("severities run")
@pytest.mark.xdist_group("severities run")
def test_what_is_lax_is_a_line(faulty_run: PytestRun) -> None:
    (line,) = [line for line in faulty_run.output.split("\n") if line.startswith("lax  ")]
    assert line.startswith("lax  linear on mine: ")
    assert "nothing was raised; the spec raises ValueError" in line
    (script,) = [s for s in faulty_run.failure_scripts if s.name in line]
    assert "nothing was raised" in run_script(script, faulty_run.folder).stdout


@pytest.mark.rotating("severities run")
@pytest.mark.xdist_group("severities run")
def test_tables_and_files_have_the_severity(faulty_run: PytestRun) -> None:
    for row in ("matmul   ✗", "relu     ◇", "linear   ○"):
        assert row in faulty_run.output
    matrix = read_matrix(faulty_run)
    entries = {(e["op"], e["property"]): e for e in matrix["entries"]}
    assert entries["linear", "test_what_the_spec_refuses_raises"]["outcome"] == "passed"
    assert entries["linear", "test_what_the_spec_refuses_raises"]["severity"] == "lax"
    assert entries["matmul", "test_every_gradient_agrees"]["severity"] == "wrong"
    assert entries["relu", "test_every_gradient_agrees"]["severity"] == ""
    assert [f["severity"] for f in matrix["failures"]] == ["wrong", "raises", "edge"]
    assert [f["severity"] for f in matrix["listed"]] == ["lax"]
    junit = ET.parse(faulty_run.folder / "j.xml").getroot()
    severities = {
        case.attrib["name"]: prop.attrib["value"]
        for case in junit.iter("testcase")
        for prop in case.iter("property")
        if prop.attrib["name"] == "severity"
    }
    assert severities == {
        "test_every_gradient_agrees[matmul-mine]": "wrong",
        "test_what_the_spec_refuses_raises[linear-mine]": "lax",
        "test_extremes_of_elementwise_ops_go_where_the_spec_says[relu-mine]": "edge",
    }
    (message,) = [
        failure.attrib["message"]
        for failure in junit.iter("failure")
        if "matmul" in failure.attrib["message"]
    ]
    assert message.startswith("wrong  matmul")
    assert "raises  matmul" in message


@pytest.mark.rotating
def test_what_does_not_fail_is_listed_whatever_it_is(tmp_path: Path) -> None:
    listing = run(tmp_path, "backend", "--no-isolate", "--fail-on=unsafe", "--op=relu", "--op=linear")
    assert listing.status == 0, listing.output
    lines = [line.split(":")[0] for line in listing.output.split("\n") if " cases: " in line]
    assert lines == ["edge  relu on mine", "lax  linear on mine"]
    assert "what disagrees" not in listing.output


@pytest.mark.rotating
def test_a_declared_deviation_may_be_lax(tmp_path: Path) -> None:
    options = ("--no-isolate", "--op=linear")
    declared = run(tmp_path, "known", *options)
    assert declared.status == 0, declared.output
    (entry,) = [e for e in read_matrix(declared)["entries"] if "refuses" in e["property"]]
    assert (entry["outcome"], entry["severity"]) == ("known", "lax")
    assert not [line for line in declared.output.split("\n") if line.startswith("lax  ")]
    assert not declared.failure_scripts


CRASHING_SOURCE = """
import os
from dataclasses import replace
import numpy as np
from gradspec.backends import load
from gradspec.reference import record

def exp(x):
    def pull(g):
        if x.ndim == 2:
            os._exit(7)
        return 2 * g * np.exp(x)
    return np.exp(x), (pull,)

backend = replace(load("numpy"), name="mine", ops={"exp": record(exp)})
"""


@pytest.mark.rotating
def test_a_wrong_number_does_not_get_lost_with_its_process(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CRASHING_SOURCE, encoding="utf-8")
    options = ("--backend=mine:backend", "--dtype=float64", "--hypothesis-profile=default")
    crashing = run_properties(tmp_path, *options, "-k", "gradient_agrees")
    assert "wrong  exp on mine (cpu) breaks a law: every gradient agrees" in crashing.output
    assert "unsafe  exp on mine (cpu) breaks a law: every gradient agrees" in crashing.output
    assert "the process exited with status 7" in crashing.output
    assert len(crashing.failure_scripts) == 2
