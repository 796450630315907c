"""What a failure shows: a case that leaves nothing to doubt, and what the mistake looks like."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, load
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import Law, judge_case
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.judging.judgement import WrongElement
from gradspec.properties.laws.extremes import extremes_go_where_the_spec_says
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.layouts import layout_makes_no_difference
from gradspec.properties.laws.purity import calls_leave_no_trace
from gradspec.properties.laws.second_order import make_moderate, second_derivatives_agree
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.explanations import explain
from gradspec.properties.running.failure import BackendLabel, LawViolation, format_command
from gradspec.properties.running.simpler_cases import count_characters_to_read, is_legal, list_telling_numbers
from gradspec.properties.running.simplify import fails_alike, simplify_case
from gradspec.properties.running.targets import OpUnderTest
from gradspec.reference import OPS, VJP
from tests.helpers.planting import make_backend_of_rules
from tests.helpers.pytest_runs import make_environment

RNG = np.random.default_rng(0)


def show_failure(law: Law, backend: Backend, case: Case, **options: Any) -> LawViolation:
    """Return what is shown of a case that fails, once it is simplified."""
    name = case.op.name
    target = OpUnderTest(name=name, op=OPS[name], backend=backend, dtypes=[case.dtype])
    with pytest.raises(LawViolation):
        target.check_law(law, case, **options)
    violation = target.simplify_failure()
    assert violation is not None
    return violation


def judge_by(fails: Callable[[Case], bool]) -> Callable[[Case], Judgement]:
    return lambda case: Judgement("disagree" if fails(case) else "agree")


# The case


def divide_whose_square_is_lost(x: Any, y: Any) -> VJP:
    return x / y, (lambda g: g / y, lambda g: -g * x / (y * y))


def divide_by_the_inverse_of_the_square(x: Any, y: Any) -> VJP:
    return x / y, (lambda g: g / y, lambda g: -g * x * (1 / (y * y)))


def multiply_that_loses_an_element(x: Any, y: Any) -> VJP:
    def pull_x(g: Any) -> Any:
        return np.where(x == np.float64(3.25), 0, g * y).astype(x.dtype)

    return x * y, (pull_x, lambda g: g * x)


@pytest.mark.parametrize("rule", [divide_whose_square_is_lost, divide_by_the_inverse_of_the_square])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [5, 1])
def test_one_element_of_ordinary_layout_convinces(rule: Callable[..., VJP], dtype: str, rows: int) -> None:
    x, y, g = RNG.standard_normal((3, 5, 7))
    x[:, 2], g[:, 2] = 0, 0
    y = 1 + np.abs(y[:rows])
    y[3 % rows, 2] = 7e-30 if dtype == "float32" else 7e-170  # the square is 0, and 0 times infinity NaN
    case = Case.of("divide", dtype, [x, y], {}, g, ("strided", "strided", "strided"))
    violation = show_failure(extremes_go_where_the_spec_says, make_backend_of_rules(divide=rule), case)
    shown, wrong = violation.case, violation.judgement.wrong
    assert isinstance(shown, Case)
    assert [a.shape for a in (*shown.inputs, shown.cotangent)] == [(), (), ()]
    assert shown.layouts == ()
    assert shown.cotangent == 1
    assert np.all(np.isfinite([a.astype(np.float64) for a in shown.inputs]))
    assert wrong is not None
    assert np.isfinite([wrong.got, wrong.expected]).all()
    assert wrong.expected != 0
    assert len(violation.as_text().splitlines()) < 8


def test_the_one_wrong_element_of_many_is_shown() -> None:
    x = RNG.standard_normal((90, 70))
    x[71, 13] = 3.25
    case = Case.of("multiply", "float64", [x, RNG.standard_normal(70)], {}, RNG.standard_normal((90, 70)))
    backend = make_backend_of_rules(multiply=multiply_that_loses_an_element)
    shown = show_failure(every_gradient_agrees, backend, case).case
    assert isinstance(shown, Case)
    assert [a.tolist() for a in (*shown.inputs, shown.cotangent)] == [3.25, 1, 1]


def softmax_whose_rows_end_early(x: Any, *, axis: int = -1) -> VJP:
    y, (pull,) = OPS["softmax"].rule(x, axis=axis)  # type: ignore[misc]
    return y, (lambda g: pull(g) * (np.max(x, axis=axis, keepdims=True) < 2),)  # type: ignore[misc]


def test_a_batch_is_cut_to_the_row_that_is_wrong() -> None:
    x, g = RNG.uniform(-1, 1, (2, 5, 4))
    x[3, 1] = 2.5
    case = Case.of("softmax", "float64", [x], {"axis": -1}, g)
    backend = make_backend_of_rules(softmax=softmax_whose_rows_end_early)
    shown = show_failure(every_gradient_agrees, backend, case).case
    assert isinstance(shown, Case)
    assert shown.inputs[0].shape == (1, 2)
    assert np.any(shown.cotangent)


def sum_of_three_axes_counts_twice(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
    value, (pull,) = OPS["sum"].rule(x, axis=axis, keepdims=keepdims)  # type: ignore[misc]
    return value, (lambda g: pull(g) * (1 if x.ndim < 3 else 2),)  # type: ignore[misc]


def test_axes_are_as_short_as_can_be() -> None:
    x = RNG.standard_normal((2, 3, 4))
    backend = make_backend_of_rules(sum=sum_of_three_axes_counts_twice)
    for axis, g in ((1, np.ones((2, 4))), (None, 2.5)):
        shown = show_failure(
            every_gradient_agrees, backend, Case.of("sum", "float64", [x], {"axis": axis}, g)
        )
        assert isinstance(shown.case, Case)
        assert shown.case.inputs[0].shape == (1, 1, 1)


def multiply_of_a_contiguous_y(x: Any, y: Any) -> VJP:
    return x * y, (lambda g: g * y.ravel(order="K").reshape(y.shape), lambda g: g * x)


def test_only_the_layout_that_matters_is_named() -> None:
    x, y, g = RNG.standard_normal((3, 4, 6))
    case = Case.of("multiply", "float64", [x, y], {}, g, ("strided", "fortran", "reversed"))
    backend = make_backend_of_rules(multiply=multiply_of_a_contiguous_y)
    text = show_failure(layout_makes_no_difference, backend, case).as_text()
    assert "layout of y: fortran" in text
    assert text.count("layout of") == 1


def add_that_raises_for_vectors(x: Any, y: Any) -> VJP:
    if x.shape != y.shape:
        raise ValueError("no broadcasting")
    return x + y, (lambda g: g * 2, lambda g: g)


def test_a_wrong_number_does_not_become_an_exception() -> None:
    case = Case.of("add", "float64", [[[1.5, 2.5]], [[0.5, 1.25]]], {}, [[1, 2]])
    backend = make_backend_of_rules(add=add_that_raises_for_vectors)
    violation = show_failure(every_gradient_agrees, backend, case)
    assert "raised" not in violation.judgement.reason
    other = Case.of("add", "float64", [[1.5, 2.5], 0.5], {}, [1, 2])
    assert "raised ValueError" in show_failure(every_gradient_agrees, backend, other).judgement.reason


def make_judgement(got: float, expected: float = 1.0) -> Judgement:
    return Judgement("disagree", "the value is ...", wrong=WrongElement("value", (), got, expected))


def test_what_fails_in_another_way_is_not_taken() -> None:
    number, nan = make_judgement(2.0), make_judgement(np.nan)
    raised, elsewhere = (
        Judgement("disagree", f"raised ValueError: {k}\n  at a.py:{k} in f: x", raised=True) for k in (1, 2)
    )
    shape = Judgement("disagree", "the value has shape (1,), expected ()")
    assert fails_alike(number, number)
    assert fails_alike(number, nan)
    assert fails_alike(nan, nan)
    assert fails_alike(raised, replace(raised, reason=raised.reason.replace(": 1", ": other shapes")))
    for now, before in [
        *((nan, number), (raised, number), (number, raised), (elsewhere, raised)),
        *((shape, number), (number, shape), (Judgement("lossy"), number)),
    ]:
        assert not fails_alike(now, before)


def test_values_become_simple_for_as_long_as_the_failure_stays() -> None:
    x, y, g = np.random.default_rng(0).standard_normal((3, 4))
    case = Case.of("multiply", "float64", [x, y], {}, g)

    def fails(c: Case) -> bool:
        return bool(c.inputs[0].shape == (4,) and c.inputs[0][2] < 0.7 and c.cotangent[1] != 0)

    simple = simplify_case(case, judge_by(fails), smooth=False)
    assert fails(simple)
    assert count_characters_to_read(simple) <= 1
    assert np.array_equal(simple.inputs[1], np.zeros(simple.inputs[1].shape))


def test_simpler_values_stay_in_the_domain_and_off_the_kinks() -> None:
    always = judge_by(lambda _: True)
    log = Case.of("log", "float64", [[0.731, 2.25]], {}, [1, 1])
    assert np.all(simplify_case(log, always, smooth=False).inputs[0] > 0)
    relu = Case.of("relu", "float64", [[0.731, -2.25]], {}, [1, 1])
    simple = simplify_case(relu, always, smooth=True)
    assert is_legal(simple, relu, smooth=True)
    assert np.all(simple.inputs[0] != 0)


def test_what_is_extreme_on_purpose_may_stay_so() -> None:
    # Of these numbers only the last is in the domain.
    case = Case.of("log", "float64", [[-0.731, np.nan, 2.25]], {}, [1, 1, 1])

    def fails(c: Case) -> bool:
        return bool(c.inputs[0].shape == (3,) and np.isnan(c.inputs[0][1]))

    simple = simplify_case(case, judge_by(fails), smooth=False)
    assert np.array_equal(simple.inputs[0][:2], [-0.731, np.nan], equal_nan=True)
    assert simple.inputs[0][2] == 1


def test_every_law_on_cases_shows_simpler_values_within_its_reach() -> None:
    case = Case.of("tanh", "float64", [[0.731, 1.318]], {}, [0.917, 1.213])

    def law(_: Any, case: Case) -> Judgement:
        return Judgement("disagree" if case.inputs[0].reshape(-1)[-1] > 1 / 2 else "agree")

    shown = show_failure(law, load("numpy"), case, adapt=make_moderate).case
    assert isinstance(shown, Case)
    assert (shown.inputs[0].tolist(), shown.cotangent.tolist()) == (1, 1)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_squares_of_telling_numbers_over_and_underflow(dtype: str) -> None:
    case = Case.of("square", dtype, [list_telling_numbers(dtype)], {}, np.ones(13))
    with np.errstate(all="ignore"):
        squares = case.inputs[0] * case.inputs[0]
    assert np.all(np.isfinite(case.inputs[0]) & (case.inputs[0] != 0))
    assert np.any(np.isinf(squares))
    assert np.any(squares == 0)


# What it looks like


def exp_of_memory_from_before(x: Any) -> VJP:
    y = np.exp(x)
    return y, (lambda g: np.full_like(x, 4.6e-310),)


def test_a_tiny_number_among_moderate_ones_looks_like_memory_never_written() -> None:
    case = Case.of("exp", "float64", [[0.5, 1]], {}, [1, 2])
    backend = make_backend_of_rules(exp=exp_of_memory_from_before)
    text = show_failure(every_gradient_agrees, backend, case).as_text()
    assert "  looks like memory that was never written" in text
    honest = make_backend_of_rules(exp=lambda x: (np.exp(x), (lambda g: 0 * g,)))
    assert "never written" not in show_failure(every_gradient_agrees, honest, case).as_text()


def make_torch_kernels(**functions: Callable[..., Any]) -> Backend:
    return load("torch").with_ops(name="kernels", dtypes={"float64"}, **functions)  # type: ignore[arg-type]


@pytest.mark.parametrize("allocate", ["empty_like", "new_empty", "empty_strided"])
def test_an_element_that_a_torch_kernel_leaves_out_is_told(allocate: str) -> None:
    torch = pytest.importorskip("torch")

    def leave_out_the_last(x: Any) -> Any:
        y = {
            "empty_like": lambda: torch.empty_like(x),
            "new_empty": lambda: x.new_empty(x.shape),
            "empty_strided": lambda: torch.empty_strided(x.shape, x.stride()),
        }[allocate]()
        y.view(-1)[:-1] = torch.exp(x.contiguous().view(-1)[:-1])
        return y

    case = Case.of("exp", "float64", [[0.5, 1, 2]], {}, [1, 2, 3])
    backend = make_torch_kernels(exp=leave_out_the_last)
    violation = show_failure(value_agrees, backend, case)
    assert "looks like memory that was never written" in violation.as_text()
    assert "is nan, expected" in violation.judgement.reason


def test_a_torch_kernel_that_gives_nan_by_itself_did_write() -> None:
    torch = pytest.importorskip("torch")
    backend = make_torch_kernels(exp=lambda x: x * torch.nan)
    case = Case.of("exp", "float64", [[0.5, 1, 2]], {}, [1, 2, 3])
    assert "never written" not in show_failure(value_agrees, backend, case).as_text()


def test_torch_gives_its_own_memory_once_the_poison_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    names = ("empty", "empty_like", "empty_strided", "empty_permuted")
    before = [getattr(torch, name) for name in names]
    poisoned = load("torch").poisoned

    def raise_in_poisoned_memory() -> None:
        with poisoned():
            with poisoned():
                pass
            for x in (torch.empty(2), torch.empty(2, dtype=torch.bfloat16, requires_grad=True)):
                assert x.isnan().all()
            assert torch.empty(2, dtype=torch.int32).tolist() == [2**31 - 1] * 2
            assert torch.ones(2).new_empty(3).isnan().all()
            raise KeyError

    with pytest.raises(KeyError):
        raise_in_poisoned_memory()
    assert all(getattr(torch, name) is x for name, x in zip(names, before, strict=True))
    monkeypatch.setattr("gradspec.backends.torch_memory.fill_with_poison", pytest.fail)
    assert torch.ones(2).new_empty(4).shape == (4,)


def multiply_that_keeps_a_view_of_x(x: Any, y: Any) -> VJP:
    saved_y = y.copy()
    return x * y, (lambda g: g * saved_y, lambda g: g * x)


def test_the_input_that_was_written_to_is_named() -> None:
    def vjp(fn: Any, *inputs: Any) -> Any:  # not the tape, which would notice the write
        value, pulls = multiply_that_keeps_a_view_of_x(*inputs)
        return value, lambda g: tuple(pull(g) for pull in pulls)  # type: ignore[misc,union-attr]

    backend = replace(make_backend_of_rules(multiply=multiply_that_keeps_a_view_of_x), vjp=vjp)
    case = Case.of("multiply", "float64", [[2.0, 3], [4, 5]], {}, [1, 1])
    judgement = judge_case(calls_leave_no_trace, backend, case)
    assert judgement.reason == "after a write to x the pullback gives another gradient of y"


# Torch's kernels that can be differentiated once


def make_tanh_kernel(decorate: Callable[..., Any], *, hidden: bool = False) -> Any:
    torch = pytest.importorskip("torch")

    class Tanh(torch.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            y = torch.tanh(x)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        @decorate
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            (y,) = ctx.saved_tensors
            y = y.detach() if hidden else y
            return g * (1 - y * y)

    return Tanh.apply


def test_a_backward_pass_that_is_differentiable_once_is_told() -> None:
    function = pytest.importorskip("torch.autograd.function")
    kernels = make_torch_kernels(tanh=make_tanh_kernel(function.once_differentiable))
    case = Case.of("tanh", "float64", [0.75], {}, 1)
    text = show_failure(second_derivatives_agree, kernels, case, adapt=make_moderate).as_text()
    assert "as one marked with torch's @once_differentiable; `nests=False`" in text
    raised = Judgement("disagree", "raised RuntimeError: a function marked with @once_differentiable")
    failure = LawViolation(second_derivatives_agree, BackendLabel("kernels", "cpu", ""), case, raised)
    assert "is marked with torch's @once_differentiable; `nests" in explain(failure, kernels, judge_case)[0]


def test_a_second_derivative_of_zero_is_told() -> None:
    kernels = make_torch_kernels(tanh=make_tanh_kernel(lambda f: f, hidden=True))
    case = Case.of("tanh", "float64", [0.75], {}, 1)
    text = show_failure(second_derivatives_agree, kernels, case, adapt=make_moderate).as_text()
    assert "a backward pass that autograd does not see into" in text


def test_a_gradient_that_is_zero_itself_is_not_called_hidden() -> None:
    flat = make_backend_of_rules(tanh=lambda x: (np.tanh(x), (lambda g: 0 * g,)))
    case = Case.of("tanh", "float64", [0.75], {}, 1)
    text = show_failure(second_derivatives_agree, flat, case, adapt=make_moderate).as_text()
    assert "derivative by" in text
    assert "autograd does not see into" not in text


def test_kernels_may_say_that_they_have_no_second_derivatives() -> None:
    torch = load("torch")
    assert torch.with_ops(name="kernels", tanh=lambda x: x).nests
    assert not torch.with_ops(name="kernels", nests=False, tanh=lambda x: x).nests


# The script

KERNEL_SOURCE = """
import threading, time
import torch
from gradspec.backends import load

threading.Thread(target=time.sleep, args=(1000,)).start()

class Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 + x - s)

backend = load("torch").with_ops(name="mine", silu=Silu.apply)
"""


def test_a_script_shows_the_call_and_ends_by_itself(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "thread_kernels.py").write_text(KERNEL_SOURCE, encoding="utf-8")
    script = tmp_path / "failure.py"
    case = Case.of("silu", "float32", [[-1.5, 0]], {}, [1, 2], ("C", "strided"))
    violation = LawViolation(
        every_gradient_agrees,
        BackendLabel("mine", "cpu", "thread_kernels:backend"),
        case,
        Judgement("disagree", "the gradient of x at (0,) is ..."),
    )
    text = violation.as_script()
    assert text.startswith(f"# made by {sys.executable} {sys.version.split()[0]}\n")
    script.write_text(text.replace("\nfrom", f"\nimport sys; sys.path[:0] = [{str(tmp_path)!r}]\nfrom", 1))
    finished = subprocess.run(
        [sys.executable, script],
        env=make_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (1, "")
    shown = finished.stdout.splitlines()
    assert shown[:4] == [
        "import numpy as np",
        "x = np.array([-1.5, 0], np.float32)",
        "cotangent = np.array([1, 2], np.float32)  # strided",
        "# thread_kernels.Silu.apply(x)",
    ]
    assert shown[4].startswith("# gradient of x: expected np.array([")
    assert shown[5].startswith("#                got      np.array([")
    assert shown[6].startswith("disagree: the gradient of x at")
    names: dict[str, Any] = {}
    exec("\n".join(shown[:6]), names)  # it can be pasted
    assert names["x"].dtype == np.float32


def test_a_script_is_run_by_the_interpreter_that_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert format_command("x.py") == "python x.py"
    monkeypatch.setenv("PATH", "/nowhere")
    assert format_command("x.py").endswith(f"{Path(sys.executable).name} x.py")
    assert not format_command("x.py").startswith("python ")
