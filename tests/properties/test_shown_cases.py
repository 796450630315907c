"""What a failure and its script show: the arrays and the call that are wrong, whatever law is broken."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, load
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.layout_literals import format_laid_out
from gradspec.properties.cases.layouts import LAYOUTS, lay_out
from gradspec.properties.cases.programs import Program
from gradspec.properties.judging.attempt import Law, judge_case
from gradspec.properties.judging.process_server import CrashOrTimeout
from gradspec.properties.judging.reproduce import describe_wrong_results
from gradspec.properties.judging.shown_cases import describe_calls, describe_difference, find_shown_case
from gradspec.properties.laws.batches import a_batch_equals_its_members
from gradspec.properties.laws.constants import other_arguments_may_be_constants
from gradspec.properties.laws.depth import Chain, a_chain_of_any_length_is_differentiated
from gradspec.properties.laws.linearity import pullback_is_linear_in_the_cotangent
from gradspec.properties.laws.programs import every_gradient_of_a_program_agrees
from gradspec.properties.laws.second_order import second_derivatives_agree
from gradspec.properties.laws.shared_inputs import one_array_may_be_given_twice
from gradspec.properties.laws.symmetries import symmetries_are_kept
from gradspec.properties.laws.training import TrainingCase, a_network_learns_as_the_spec_does
from gradspec.properties.running.failure import BackendLabel, LawViolation
from gradspec.reference import OPS, VJP, record
from tests.helpers.planting import make_backend_of_ops, make_backend_of_rules
from tests.helpers.pytest_runs import run_script

SPEC = load("numpy")


def show(law: Law, backend: Backend, case: Any) -> tuple[str, list[str], dict[str, Any]]:
    """Return the text of a failure, what its script prints, and the names that these lines define."""
    judgement = judge_case(law, backend, case)
    assert judgement.verdict == "disagree"
    violation = LawViolation(law, BackendLabel(backend.name, "cpu", "mine:backend"), case, judgement)
    shown = find_shown_case(law, case)
    lines = describe_calls(law, backend, shown)
    if judgement.case is not None:
        lines += describe_difference(law, backend, judgement.case, shown)
    lines += describe_wrong_results(law, backend, case, judgement)
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    return str(violation), lines, names


def log_of_the_first_thousand(x: Any) -> VJP:
    is_first = np.arange(x.size).reshape(x.shape) < 1000
    return np.where(is_first, np.log(x), 0).astype(x.dtype), (lambda g: g / x,)


def test_a_batch_is_shown_with_all_its_members() -> None:
    case = Case.of("log", "float64", [[2, 3]], {}, [1, 1])
    text, lines, names = show(
        a_batch_equals_its_members, make_backend_of_rules(log=log_of_the_first_thousand), case
    )
    assert names["x"].shape == names["cotangent"].shape == (1100,)
    assert names["x"][:4].tolist() == [2, 3, 2, 3]
    assert "x         = np.resize([2, 3], (1100,))" in text
    # The position is one of the batch, and the number there is the wrong one.
    at = int(lines[-1].split("at (")[1].split(",")[0])
    assert at >= 1000
    assert f"expected {np.log(names['x'][at]):.9g}, got 0" in lines[-1]


def add_whose_shared_gradient_is_halved_in_batches(x: Any, y: Any) -> VJP:
    def pull_y(g: Any) -> Any:
        return g / (1 if len(np.atleast_1d(g)) < 100 else 2)

    return x + y, (lambda g: g, pull_y)


def test_a_sum_over_a_batch_is_shown_with_what_was_expected() -> None:
    case = Case.of("add", "float64", [[2, 3], 1], {}, [1, 2])
    backend = make_backend_of_rules(add=add_whose_shared_gradient_is_halved_in_batches)
    _, lines, names = show(a_batch_equals_its_members, backend, case)
    total = np.sum(names["cotangent"])
    assert lines[-1] == f"# gradient of y of the batch: expected {total:.9g}, got {total / 2:.9g}"


def test_a_batch_that_crashed_is_shown_and_not_a_member() -> None:
    case = Case.of("log", "float64", [[2, 3]], {}, [1, 1])
    crash = CrashOrTimeout("disagree", "the process was killed by SIGSEGV")
    label = BackendLabel("mine", "cpu", "mine:backend")
    violation = LawViolation(a_batch_equals_its_members, label, case, crash)
    assert "np.resize([2, 3], (1100,))" in str(violation)
    lines = describe_calls(a_batch_equals_its_members, "mine:backend", find_shown_case(violation.law, case))
    assert lines[1] == "x = np.array(np.resize([2, 3], (1100,)), np.float64)"
    assert lines[-1] == "# log(x), the log of mine:backend"


def softmax_of_small_numbers(x: Any, *, axis: int = -1) -> VJP:
    return OPS["softmax"].rule(np.minimum(x, 500), axis=axis)


def tanh_whose_gradient_clips(x: Any) -> VJP:
    y, (pull,) = OPS["tanh"].rule(x)  # type: ignore[misc]
    return y, (lambda g: pull(np.clip(g, -100, 100)),)  # type: ignore[misc]


def test_the_case_after_a_change_is_shown() -> None:
    case = Case.of("softmax", "float64", [[0, 1]], {"axis": -1}, [1, 0])
    text, lines, names = show(
        symmetries_are_kept, make_backend_of_rules(softmax=softmax_of_small_numbers), case
    )
    assert names["x"].tolist() == [1024, 1025]
    assert "x         = [1024, 1025]" in text
    assert lines.index("x = np.array([1024, 1025], np.float64)") > lines.index(
        "x = np.array([0, 1], np.float64)"
    )


def test_the_cotangent_that_is_wrong_is_shown() -> None:
    case = Case.of("tanh", "float64", [0], {}, 1)
    text, _, names = show(
        pullback_is_linear_in_the_cotangent, make_backend_of_rules(tanh=tanh_whose_gradient_clips), case
    )
    assert names["cotangent"] == 2**20
    assert "cotangent = 1048576" in text


def divide_forgets_a_constant(x: Any, y: Any) -> Any:
    is_constant = not getattr(y, "requires_grad", False)
    return SPEC.ops["multiply" if is_constant else "divide"](x, y)


def test_a_gradient_beside_a_constant_says_so() -> None:
    case = Case.of("divide", "float64", [3, 2], {}, 1)
    _, lines, _ = show(
        other_arguments_may_be_constants, make_backend_of_ops({"divide": divide_forgets_a_constant}), case
    )
    assert lines[-1] == "# gradient of x, with y constant: expected 0.5, got 2"


def an_array_given_twice_is_one_leaf(fn: Any, *inputs: Any) -> Any:
    value, pullback = SPEC.vjp(fn, *inputs)

    def pull(g: Any) -> Any:
        gradients = pullback(g)
        return [np.asarray(sum(gradients))] * 2 if len(inputs) == 2 and inputs[0] is inputs[1] else gradients

    return value, pull


def test_one_array_for_two_arguments_is_shown_as_such() -> None:
    backend = replace(
        make_backend_of_ops({"multiply": SPEC.ops["multiply"]}), vjp=an_array_given_twice_is_one_leaf
    )
    text, lines, names = show(
        one_array_may_be_given_twice, backend, Case.of("multiply", "float64", [3, 2], {}, 1)
    )
    assert names["x"] == names["y"] == 3
    assert "y         = 3" in text
    assert lines[-1] == "# gradient of x, with one array for x and y: expected 3, got 6"


def square_with_half_a_second_derivative(x: Any) -> VJP:
    held = np.array(getattr(x, "data", x))
    return x * x, (lambda g: g * (x + held),)


def test_a_second_derivative_is_shown_with_its_direction() -> None:
    backend = replace(
        make_backend_of_ops({"square": record(square_with_half_a_second_derivative)}), nests=True
    )
    _, lines, names = show(
        second_derivatives_agree, backend, Case.of("square", "float64", [[1, 2]], {}, [1, 1])
    )
    assert names["v"].shape == (2,)
    assert lines[-1].startswith("# derivative by x of the gradient of x along v at (")


SQUARED = Program(
    "float64",
    3,
    (((2,), "real", 0), ((2,), "real", 5)),
    (
        ("multiply", (-1, -2), {}),
        ("vjp", (-1,), {"steps": (("multiply", (1, -1), {}),), "shape": (2,)}),
        ("concat", (0, 1), {"axis": 0}),
    ),
)


def multiply_by_half(x: Any, y: Any) -> Any:
    return SPEC.ops["multiply"](x, SPEC.ops["multiply"](y, 0.5))


def test_a_program_is_written_as_arrays_and_calls_that_give_its_wrong_result() -> None:
    ops = {**SPEC.ops, "multiply": multiply_by_half}
    _, lines, names = show(every_gradient_of_a_program_agrees, make_backend_of_ops(ops), SQUARED)
    assert [names[name].shape for name in ("x0", "x1", "g1", "cotangent")] == [(2,), (2,), (2,), (4,)]
    comments = [line.removeprefix("# ") for line in lines if line.startswith("#")]
    name = f"{__name__}.multiply_by_half"
    assert comments[:3] == [
        f"v0 = {name}(x0, x1)",
        "v1 = the gradient by v1, at x0, for the cotangent g1, of",
        f"  v2 = {name}(v1, x0)",
    ]
    assert comments[3].startswith("v2 = ")
    assert comments[3].endswith("((v0, v1), axis=0)")
    # What the script says was expected is what these lines give.
    v0, v1 = names["x0"] * names["x1"], names["g1"] * names["x0"]
    value = np.concatenate([v0, v1])
    gradients = {
        "x0": names["cotangent"][:2] * names["x1"] + names["cotangent"][2:] * names["g1"],
        "x1": names["cotangent"][:2] * names["x0"],
    }
    what, numbers = comments[-1].split(": expected ")
    at = int(what.split("at (")[1].split(",")[0])
    result = value if what.startswith("value") else gradients[what.split()[2]]
    np.testing.assert_allclose(float(numbers.split(",")[0]), result[at], rtol=1e-8)


def test_the_steps_of_a_program_have_the_names_of_the_library() -> None:
    pytest.importorskip("torch")
    lines = describe_calls(every_gradient_of_a_program_agrees, load("torch"), SQUARED)
    assert "# v0 = torch.multiply(x0, x1)" in lines
    assert lines[-2].endswith("torch.concat((v0, v1), axis=0)")


def negative_that_is_slightly_off(x: Any) -> Any:
    return SPEC.ops["multiply"](x, -1 - 1e-9)


def test_a_chain_and_a_network_are_written_as_arrays_and_calls() -> None:
    backend = make_backend_of_ops({"negative": negative_that_is_slightly_off})
    _, lines, names = show(a_chain_of_any_length_is_differentiated, backend, Chain("float64", 5))
    assert names["x"].tolist() == [1, -2, 0.5]
    assert f"# for _ in range(5): x = {__name__}.negative_that_is_slightly_off(x)" in lines
    task = TrainingCase(0, "float64", 2, 2, 3, 2)

    def relu(x: Any) -> Any:
        return SPEC.ops["multiply"](SPEC.ops["relu"](x), 1.5)

    backend = make_backend_of_ops({**SPEC.ops, "relu": relu})
    _, lines, names = show(a_network_learns_as_the_spec_does, backend, task)
    for name, p in task.draw_parameters().items():
        np.testing.assert_array_equal(names[name], p)
    np.testing.assert_array_equal(names["x"], task.draw_data()[0])
    (loss,) = (line for line in lines if line.startswith("# loss = "))
    assert loss.endswith("bias2), target)")
    assert ": expected " in lines[-1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (3,), (1,), (2, 3), (2, 3, 4), (2, 1, 3, 2)])
def test_a_layout_is_written_as_numpy_makes_it(layout: str, shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    if layout == "expanded":
        x = np.array(np.broadcast_to(x[..., :1], shape)) if shape else x
    expression = format_laid_out(x, layout)
    assert expression is not None
    written, expected = eval(expression, {"np": np}), lay_out(x, layout)
    np.testing.assert_array_equal(written, expected)
    assert written.dtype == x.dtype
    moving = [i for i, n in enumerate(shape) if n > 1]
    assert [written.strides[i] for i in moving] == [expected.strides[i] for i in moving]


CRASHING_SOURCE = """
import os
from dataclasses import replace
from gradspec.backends import load

right = load("numpy")


def log(x):
    if getattr(x, "data", x).size > 1000:
        os.abort()
    return right.ops["log"](x)


backend = replace(right, name="mine", ops={"log": log})
"""


@pytest.mark.rotating
def test_the_script_of_a_batch_that_crashes_shows_it(tmp_path: Path) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING_SOURCE, encoding="utf-8")
    label = BackendLabel("mine", "cpu", "crashing:backend")
    case = Case.of("log", "float64", [[2, 3]], {}, [1, 1])
    violation = LawViolation(
        a_batch_equals_its_members,
        label,
        case,
        CrashOrTimeout("disagree", "the process was killed by SIGABRT"),
    )
    script = violation.save(tmp_path)
    text = script.read_text("utf-8").replace(
        "\nfrom", f"\nimport sys; sys.path[:0] = [{str(tmp_path)!r}]\nfrom", 1
    )
    script.write_text(text, "utf-8")
    run = run_script(script, tmp_path)
    assert (run.returncode, run.stderr) == (1, ""), run.stdout
    assert "x = np.array(np.resize([2, 3], (1100,)), np.float64)" in run.stdout
    assert run.stdout.splitlines()[-1].startswith("unsafe: the process was killed by SIGABRT")


def test_a_script_of_what_is_right_ends_with_the_verdict_alone(tmp_path: Path) -> None:
    case = Case.of("log", "float64", [[2, 3]], {}, [1, 1])
    judgement = judge_case(a_batch_equals_its_members, SPEC, case)
    assert judgement.reason == ""
    label = BackendLabel("numpy", "cpu", "numpy")
    run = run_script(
        LawViolation(a_batch_equals_its_members, label, case, judgement).save(tmp_path), tmp_path
    )
    assert run.stdout.splitlines()[-1] == "agree"
