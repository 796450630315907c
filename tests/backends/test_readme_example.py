"""Tests that the README's example does what the README says, in less than 60 lines.

It agrees with the spec, or deviates where it declares that it does.
"""

import json
from typing import Any

import pytest

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.rare import of_every_size
from gradspec.properties.judging.attempt import Law, judge_case
from gradspec.properties.laws.bad_input import what_the_spec_refuses_raises
from gradspec.properties.laws.purity import calls_leave_no_trace
from gradspec.properties.laws.second_order import second_derivatives_agree
from gradspec.properties.test_second_order import EXPONENTS_OF_SECOND_DERIVATIVES
from gradspec.reference import OPS
from tests.helpers.pytest_runs import PytestRun, read_example_backend, run_properties

OPS_THAT_AGREE = ("exp", "getitem", "matrix_transpose")
OPS_THAT_DEVIATE = ("concat", "permute_dims", "pow", "var")
OP_THAT_DECLINES = "where"
OPS_OF_RUN = {*OPS_THAT_AGREE, *OPS_THAT_DEVIATE, OP_THAT_DECLINES}

ExampleRun = tuple[PytestRun, list[dict[str, Any]]]
"""A run, and the entries of its matrix."""


def exec_backend(text: str) -> Backend:
    module: dict[str, Any] = {}
    exec(text, module)
    return module["backend"]  # type: ignore[no-any-return]


def replace_in_example(part: str, instead: str = "") -> str:
    """Return the example with a part of it replaced."""
    text = read_example_backend()
    assert part in text
    return text.replace(part, instead)


def test_the_example_is_short() -> None:
    assert len(read_example_backend().splitlines()) < 65


@pytest.fixture(scope="module")
def example_run(tmp_path_factory: pytest.TempPathFactory) -> ExampleRun:
    """A run of the example over some ops, and its entries. The profile `quick` might miss a deviation."""
    folder = tmp_path_factory.mktemp("example")
    (folder / "my_backend.py").write_text(read_example_backend(), encoding="utf-8")
    options = ["--backend=my_backend:backend", "--matrix=matrix.json", "-n2", "--hypothesis-profile=default"]
    options += [f"--op={op}" for op in sorted(OPS_OF_RUN)]
    run = run_properties(folder, *options)
    return run, json.loads((folder / "matrix.json").read_text(encoding="utf-8"))["entries"]


@pytest.mark.rotating("example run")
@pytest.mark.xdist_group("example run")
def test_the_example_is_green(example_run: ExampleRun) -> None:
    run, entries = example_run
    assert run.status == 0, run.output
    assert {script.stem.split("-", 1)[1] for script in run.failure_scripts} <= {
        "where-autograd-lax"
    }  # listed
    assert {e["op"] for e in entries} >= OPS_OF_RUN
    assert {e["op"] for e in entries if e["tally"]["declined"]} == {OP_THAT_DECLINES}


@pytest.mark.rotating("example run")
@pytest.mark.xdist_group("example run")
def test_the_example_deviates_where_it_declares_to(example_run: ExampleRun) -> None:
    _, entries = example_run
    assert {e["op"] for e in entries if e["outcome"] == "known"} == {*OPS_THAT_DEVIATE}
    assert ("permute_dims", "test_every_gradient_agrees", "known") in {
        (e["op"], e["property"], e["outcome"]) for e in entries
    }
    of_pow = {e["property"] for e in entries if e["op"] == "pow" and e["outcome"] == "known"}
    assert of_pow == {
        "test_second_derivatives_agree",
        "test_second_derivatives_of_every_size_agree",
        "test_extremes_of_elementwise_ops_go_where_the_spec_says",
    }


def test_second_derivatives_of_every_size_deviate_where_the_example_declares_it() -> None:
    backend = exec_backend(read_example_backend())
    deviating = {
        name
        for name in backend.ops
        if name != "pow"  # declared as a whole, for moderate numbers too
        for case in of_every_size(OPS[name], ["float64"], EXPONENTS_OF_SECOND_DERIVATIVES)
        if judge_case(second_derivatives_agree, backend, case).verdict == "disagree"
    }
    assert deviating == {"divide", "reciprocal", "tanh"}
    assert {f"{name}: second derivatives of every size agree" for name in deviating} <= {*backend.known}


@pytest.mark.parametrize(
    ("law", "cotangent", "part", "instead"),
    [
        (calls_leave_no_trace, [1, 10], "map(anp.array, inputs)", "inputs"),
        (what_the_spec_refuses_raises, [1], "g.shape != value.shape", "False"),
    ],
)
def test_what_an_adapter_owes_is_asked_for(law: Law, cotangent: Any, part: str, instead: str) -> None:
    """A vjp that does not copy its inputs, or does not check the cotangent, is caught."""
    case = Case.of("square", "float64", [[1, 2]], {}, cotangent)
    assert judge_case(law, exec_backend(read_example_backend()), case).verdict == "agree"
    assert judge_case(law, exec_backend(replace_in_example(part, instead)), case).verdict == "disagree"


def test_a_mask_is_to_be_copied_by_the_op() -> None:
    """A `where` that does not copy its condition, which never passes through vjp, is caught."""
    case = Case.of("where", "float64", [[True, False], [1, 2], [3, 4]], {}, [1, 10])
    assert judge_case(calls_leave_no_trace, exec_backend(read_example_backend()), case).verdict == "agree"
    without_copy = exec_backend(replace_in_example("np.array(condition)", "condition"))
    judgement = judge_case(calls_leave_no_trace, without_copy, case)
    assert judgement.reason.startswith(
        "after a write to condition the pullback gives a different gradient of x"
    )
