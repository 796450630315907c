"""One cause is one entry: the same exception, the same wrong result of an op, a wall that all ops meet."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from gradspec.properties.running.causes import group_by_cause, identify_cause
from gradspec.properties.running.report import (
    MAX_FAILURES_IN_FULL,
    FailureRecord,
    RunResults,
    show_failures,
)
from tests.helpers.pytest_runs import PytestRun, run_properties

WRONG_GRADIENT = (
    "the gradient of x is 0.25, expected 0.5, off by 0.25 (3e-15 is allowed)",
    "the gradient of x at (0, 1) is 0.25, expected 0.5, off by 0.25 (3e-15 is allowed)",
    "the gradient of x of the batch at (3,) is 1.0, expected 2.0, off by 1 (3e-15 is allowed)",
    "the gradient of x of the batch is 3, the sum of those of its members is 6 (1 more or less is allowed)",
    "the gradient of x (the value is doubled with x) at (0,) is 1, expected 2, off by 1 (3e-15 is allowed)",
    "with y constant, the gradient of x at (0,) is 1, expected 2, off by 1 (3e-15 is allowed)",
    "the gradient of x for the cotangent scaled up at (0,) is 1, expected 2, off by 1 (1e-9 is allowed)",
    "for a cotangent of zero the gradient of x is [0.25 0.5]",
    "the gradient of x at (0,) is nan, the spec's is infinite",
    "the gradient of x has shape (2,), expected (1, 2)",
    "the gradients of x sum to 3; on either side of the kink they sum to 1",
)
"""What the laws say of a gradient that is wrong in one way."""

MINE = "\n  at mine.py:7 in multiply: return [d for d in x.tape.pull(g)]"

YOURS = MINE.replace("mine", "yours")

ALIKE = {
    "a wrong gradient": [
        *(("exp", reason) for reason in WRONG_GRADIENT),
        ("exp", "the derivative by cotangent of the gradient of x at (0,) is 1, expected 2"),
    ],
    "a wrong value": [
        ("exp", "the value at (0,) is 1, expected 2, off by 1 (1e-9 is allowed)"),
        ("exp", "the value of the batch at (3,) is 1, expected 2, off by 1 (1e-9 is allowed)"),
        ("exp", "the value (invariant under shifts) at (0,) is 1, expected 2"),
    ],
    "an exception": [
        ("exp", f"raised ValueError: cannot pull (2, 3) to (3,){MINE}"),
        ("exp", f"with y constant, raised ValueError: cannot pull () to (1,){MINE}"),
        ("exp", f"raised ValueError: cannot pull (4,) to (1, 4){MINE}\n  but not when tried again"),
    ],
    "shapes of other ranks in a message": [
        ("max", f"raised ValueError: cannot reshape array of size 0 into shape (0,newaxis){MINE}"),
        ("max", f"raised ValueError: cannot reshape array of size 0 into shape (7,0,newaxis){MINE}"),
    ],
    "shapes that do not fit": [
        ("max", f"raised ValueError: non-broadcastable output operand with shape (1,2) doesn't match{MINE}"),
        ("max", f"raised ValueError: operands could not be broadcast together with shapes (3,2) (2,3){MINE}"),
        ("max", f"raised ValueError: could not broadcast input array from shape (2,) into shape (3,){MINE}"),
    ],
    "a stack that ran out": [
        ("exp", f"raised RecursionError: maximum recursion depth exceeded{MINE}"),
        ("exp", f"raised RecursionError: maximum recursion depth exceeded while calling{YOURS}"),
        ("exp", "raised RecursionError: maximum recursion depth exceeded"),
    ],
    "memory that ran out": [
        ("exp", f"raised _ArrayMemoryError: Unable to allocate 8 TiB for shape (2,){MINE}"),
        ("exp", f"raised _ArrayMemoryError: Unable to allocate 9 TiB for an array of x{YOURS}"),
    ],
    "gradients that are not as many": [
        ("multiply", "the pullback returned None (NoneType), not 1 gradients"),
        ("multiply", "the pullback returned [] (list), not 2 gradients"),
    ],
    "results of other classes": [
        ("exp", "[1.0, 2.0] (list) is not a mine array"),
        ("exp", "np.True_ (bool) is not a mine array"),
        ("exp", "np.float64(0.0) (float64) is not a mine array"),
        ("exp", "[] (ndarray) is not a mine array: no attribute shape"),
    ],
    "what changes in numbers alone": [
        ("exp", "x was changed from [0.5, 1.0] to [2.5, 1.0]"),
        ("exp", "x was changed from [1] to [2]"),
    ],
}

APART = {
    "results": [
        "the value at (0,) is 1, expected 2",
        WRONG_GRADIENT[0],
        "the gradient of y is 1, expected 2",
    ],
    "a dtype and a number": [WRONG_GRADIENT[0], "the gradient of x has dtype float32, not float64"],
    "first and second derivatives": [
        WRONG_GRADIENT[0],
        "the derivative by x of the gradient of x at (0,) is 1, expected 2",
        "the derivative by x of the gradient of y at (0,) is 1, expected 2",
    ],
    "a gradient that is wrong, changes, or is shared": [
        WRONG_GRADIENT[0],
        "a second run gives a different gradient of x",
        "the gradients of x and y share memory",
    ],
    "messages": [f"raised TypeError: no attribute 'a'{MINE}", f"raised TypeError: no attribute 'b'{MINE}"],
    "places": [f"raised ValueError: no{MINE}", f"raised ValueError: no{MINE.replace(':7', ':9')}"],
    "classes": [f"raised ValueError: no{MINE}", f"raised TypeError: no{MINE}"],
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_one_edit_would_mend_is_one_cause(name: str) -> None:
    assert len({identify_cause("mine:backend", target, reason) for target, reason in ALIKE[name]}) == 1


@pytest.mark.parametrize("name", APART)
def test_what_has_another_cause_stays_apart(name: str) -> None:
    reasons = APART[name]
    assert len({identify_cause("mine:backend", "exp", reason) for reason in reasons}) == len(reasons)


def test_the_same_wrong_result_of_two_ops_or_backends_has_two_causes() -> None:
    places = [("mine", "exp"), ("mine", "log"), ("other", "exp")]
    assert len({identify_cause(*place, WRONG_GRADIENT[0]) for place in places}) == 3


def group_reasons(*reasons: str) -> list[list[str]]:
    """Return the reasons of failures of one op, by cause."""
    records = [
        FailureRecord(
            "exp", f"exp\n{r}", "", identify_cause("mine:backend", "exp", r), "a law", "exp", reason=r
        )
        for r in reasons
    ]
    return [[failure.reason for failure in group] for group in group_by_cause(records)]


def test_an_exception_of_the_op_itself_has_the_cause_of_the_same_one_from_below() -> None:
    # A function of a compiled library has no frame when a law calls it, and that of `vjp` when `vjp` does.
    direct, within = "raised TypeError: cumsum(): bad", f"raised TypeError: cumsum(): bad{MINE}"
    assert group_reasons(direct, within) == [[direct, within]]
    other = f"raised TypeError: cumprod(): bad{MINE}"
    assert len(group_reasons(direct, other)) == 2


def test_a_whole_sentence_at_two_places_of_an_op_is_one_cause() -> None:
    # A library that cuts its tracebacks shows another place where `vjp` calls the op.
    said = "raised TypeError: transpose permutation isn't a permutation of operand dimensions, got (-1,)"
    assert len(group_reasons(f"{said}{MINE}", f"{said}{YOURS}")) == 1
    assert len(group_reasons(f"raised TypeError: no{MINE}", f"raised TypeError: no{YOURS}")) == 2


def test_what_takes_two_inputs_for_one_is_one_cause_for_all_ops() -> None:
    shared = "with one array for x and y, the gradient of x is 2, expected 1, off by 1 (2e-15 is allowed)"
    other = "with one array for x and bias, the gradient of bias at (0,) is 2, expected 1"
    assert len(group_targets(("add", shared), ("multiply", shared), ("linear", other))) == 1
    assert len(group_targets(("add", shared), ("multiply", shared))) == 2
    # Where the gradient is wrong in any case, it is so here.
    wrong = "the gradient of x is 2, expected 1, off by 1 (2e-15 is allowed)"
    assert len(group_targets(("add", shared), ("add", wrong))) == 1


def test_of_two_places_of_a_sentence_the_wall_is_taken() -> None:
    said = "raised TypeError: this backend takes no arrays of that many axes at all"
    walls = [(op, f"{said}{MINE}") for op in OPS_OF_A_WALL]
    assert len(group_targets(*walls, ("add", f"{said}{YOURS}"))) == 1


def test_a_derivative_of_a_wrong_gradient_is_wrong_with_it() -> None:
    derivative = "the derivative by x of the gradient of x along v at (0,) is 1, expected 2"
    assert group_reasons(WRONG_GRADIENT[0], derivative) == [[WRONG_GRADIENT[0], derivative]]
    of_another = derivative.replace("gradient of x", "gradient of y")
    assert len(group_reasons(WRONG_GRADIENT[0], of_another)) == 2
    assert group_reasons(derivative) == [[derivative]]


# What lies below the ops

RAISED = f"raised ValueError: cannot add (2, 3) to (3,){MINE}"
RECURSION = f"raised RecursionError: maximum recursion depth exceeded{MINE}"
NO_ARRAY = "[1.0] (list) is not a mine array"
NO_GRADIENTS = "the pullback returned None (NoneType), not 2 gradients"
OPS_OF_A_WALL = ("add", "exp", "tanh")


def group_targets(*failures: tuple[str, str] | tuple[str, str, str]) -> list[list[str]]:
    """Return the targets of each group, given target, reason and perhaps the case of each failure."""
    records = []
    for target_name, reason, *case in failures:
        signature = identify_cause("mine:backend", target_name, reason)
        text = "\n".join([f"{target_name} on mine breaks a law", *case, reason])
        records.append(FailureRecord(target_name, text, "", signature, "value agrees", target_name))
    return sorted(sorted(f.target_name for f in group) for group in group_by_cause(records))


@pytest.mark.parametrize("reason", [RAISED, RECURSION, NO_ARRAY, NO_GRADIENTS])
def test_what_many_ops_meet_is_one_wall(reason: str) -> None:
    failures = [(name, reason) for name in (*OPS_OF_A_WALL, "exp", "programs")]
    assert group_targets(*failures) == [["add", "exp", "exp", "programs", "tanh"]]


@pytest.mark.parametrize("reason", [RAISED, RECURSION, NO_ARRAY, NO_GRADIENTS])
def test_what_two_ops_meet_are_two_causes(reason: str) -> None:
    failures = [("permute_dims", reason), ("where", reason), ("where", reason)]
    assert group_targets(*failures) == [["permute_dims"], ["where", "where"]]


@pytest.mark.parametrize("reason", [RAISED, NO_GRADIENTS])
def test_what_the_adapter_shows_is_its_own_however_few_ops_meet_it(reason: str) -> None:
    of_adapter = f"the adapter: vjp: the pullback {reason.removeprefix('the pullback ')}"
    assert group_targets(("adapter", of_adapter), ("exp", reason)) == [["adapter", "exp"]]


def test_a_program_fails_with_the_op_that_it_has() -> None:
    failures = ("permute_dims", RAISED), ("where", RAISED)
    program = "v0 = squeeze(x0)\nv1 = where(x1, v0, x2)"
    assert group_targets(*failures, ("programs", RAISED, program)) == [
        ["permute_dims"],
        ["programs", "where"],
    ]
    other = "v0 = nowhere(x0)"
    assert group_targets(*failures, ("programs", RAISED, other)) == [
        ["permute_dims"],
        ["programs"],
        ["where"],
    ]


def test_many_ops_with_wrong_gradients_are_as_many_causes() -> None:
    assert len(group_targets(*((name, WRONG_GRADIENT[0]) for name in OPS_OF_A_WALL))) == 3


# The report


def make_failure(i: int, target_name: str = "", cause: str = "") -> FailureRecord:
    title = f"op{i:02} on mine (cpu) breaks a law: value agrees"
    reason = f"the value is {i}, expected 0"
    signature = (cause or f"op{i}",)
    text = f"{title}\n  in float64\n  {reason}"
    return FailureRecord(
        title, text, f"f{i}.py", signature, "value agrees", target_name or f"op{i}", reason=reason
    )


def test_every_failure_says_why_however_many_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    count = MAX_FAILURES_IN_FULL + 3
    show_failures(RunResults([], [make_failure(i) for i in range(count)]), Console(width=100))
    lines = capsys.readouterr().out.splitlines()
    for i in range(count):
        assert any(line.strip() == f"the value is {i}, expected 0" for line in lines), i
        assert any("  reproduce: " in line and line.endswith(f"f{i}.py") for line in lines), i
    assert sum("in float64" in line for line in lines) == MAX_FAILURES_IN_FULL


def test_every_change_of_severity_has_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    failures = [make_failure(i) for i in range(MAX_FAILURES_IN_FULL + 3)]
    for failure in failures[:2]:
        failure.severity = "unsafe"
    for failure in failures[2:5]:
        failure.severity = "edge"
    show_failures(RunResults([], failures), Console(width=100))
    text = re.sub(r"\n  .*", "", capsys.readouterr().out)
    headings = re.findall(r"^--- (\w+)", text, flags=re.MULTILINE)
    assert headings == ["wrong", "edge", "unsafe"]
    assert text.index("--- unsafe") < text.index("op00 on mine") < text.index("op01 on mine")


def test_an_adapter_is_told_before_all_that_fails_with_it() -> None:
    failures = [make_failure(1, cause="wall"), make_failure(22, "adapter", "wall"), make_failure(3)]
    groups = RunResults([], failures).group_failures()
    assert [[f.target_name for f in group] for group in groups] == [["adapter", "op1"], ["op3"]]


# Whole runs

BACKENDS_SOURCE = """
import os
from dataclasses import replace
import numpy as np
from gradspec.backends import load

right = load("numpy")


def make(name, **changes):
    ops = {name: right.ops[name] for name in ("tanh", "exp", "multiply", "layer_norm")}
    return replace(right, name=name, **{"ops": ops, "nests": False, **changes})


def narrow(x):
    return x.astype(np.float32) if x.dtype == np.float64 else x


def refuse_negative_strides(x):
    if any(stride < 0 for stride in x.strides):
        raise ValueError(f"negative strides: {x.strides}")
    return x


def wrong_vjp(fn, *inputs):
    value, pullback = right.vjp(fn, *inputs)
    return value, lambda g: [np.asarray(1.5 * d) for d in pullback(g)]


narrowing = make("narrowing", from_numpy=narrow)
refusing = make("refusing", from_numpy=refuse_negative_strides)
def exit_on_matrices(x):
    return os._exit(3) if np.ndim(x) == 2 else right.ops["tanh"](x)


dying = make("dying", ops={"tanh": exit_on_matrices, "exp": right.ops["exp"]})
wrong_tanh = make("wrong_tanh", ops={"tanh": right.ops["tanh"]}, vjp=wrong_vjp)
"""


def run_backend(folder: Path, name: str, *options: str) -> PytestRun:
    (folder / "mine.py").write_text(BACKENDS_SOURCE, encoding="utf-8")
    return run_properties(folder, f"--backend=mine:{name}", "--no-isolate", *options)


def read_entries(run: PytestRun) -> list[str]:
    """Return what the report says of each cause, without the lines on severities."""
    section = re.sub(
        r"^--- .*\n", "", run.output.split("what disagrees")[1].split("= gradspec")[0], flags=re.MULTILINE
    )
    return [entry.strip() for entry in section.split("\n", 1)[1].split("\n\n") if "reproduce: " in entry]


@pytest.mark.rotating
@pytest.mark.parametrize("options", [(), ("-n2",)])
def test_an_adapter_that_narrows_is_told_once_and_the_other_dtype_is_tried(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    run = run_backend(tmp_path, "narrowing", *options)
    (entry,) = read_entries(run)
    assert entry.startswith(
        "wrong  adapter on narrowing (cpu) breaks a law: arrays and gradients pass the adapter"
    )
    assert "the adapter: from_numpy or to_numpy turns float64 into float32" in entry
    assert "until this is fixed, nothing else is tried in float64" in entry
    assert "tanh         ✓" in run.output
    assert run.status == 1


@pytest.mark.rotating
def test_an_adapter_that_fails_in_all_dtypes_leaves_nothing_else_to_try(tmp_path: Path) -> None:
    run = run_backend(tmp_path, "narrowing", "--dtype=float64", "--op=exp", "-rs")
    assert len(read_entries(run)) == 1
    assert "the adapter of narrowing fails in float64" in run.output
    assert run.status == 1


@pytest.mark.rotating
def test_where_the_adapter_is_not_tried_nothing_is_left_out(tmp_path: Path) -> None:
    run = run_backend(tmp_path, "narrowing", "--dtype=float64", "--op=exp", "-k", "shapes")
    assert "the value has dtype float32, not float64" in run.output
    assert " skipped" not in run.output
    assert run.status == 1


@pytest.mark.rotating
def test_one_refusal_under_many_ops_is_one_entry(tmp_path: Path) -> None:
    run = run_backend(tmp_path, "refusing")
    (entry,) = read_entries(run)
    assert "the adapter: from_numpy of a float64 array with negative strides raised ValueError" in entry
    assert "also in: exp, " in entry  # more or fewer ops, as cases are drawn
    assert "nothing else" not in entry
    assert len(run.failure_scripts) == 1


@pytest.mark.rotating
def test_one_wrong_gradient_under_many_laws_is_one_entry(tmp_path: Path) -> None:
    run = run_backend(tmp_path, "wrong_tanh", "--op=tanh")
    (entry,) = read_entries(run)
    assert "also breaks: " in entry
    assert entry.count(";") >= 1, entry  # of laws that are broken likewise


@pytest.mark.rotating
def test_an_op_that_crashes_in_first_contact_keeps_no_other_from_being_tried(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BACKENDS_SOURCE, encoding="utf-8")
    run = run_properties(tmp_path, "--backend=mine:dying", "--dtype=float64", "--op=tanh", "--op=exp")
    assert "unsafe  tanh on dying (cpu) breaks a law" in run.output
    assert "nothing else is tried" not in run.output
    assert re.search(r"^exp +✓", run.output, re.MULTILINE)
