"""What a failure shows: a case that leaves nothing to doubt, and what the mistake looks like."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, load
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.many_elements import LARGE_SIZE, large
from gradspec.properties.cases.repetition import find_period
from gradspec.properties.judging.attempt import Law, judge_case
from gradspec.properties.judging.function_names import find_function_name
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.judging.judgement import WrongElement
from gradspec.properties.judging.reproduce import describe_wrong_results
from gradspec.properties.judging.shown_cases import describe_calls
from gradspec.properties.laws.extremes import extremes_go_where_the_spec_says
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.kinks import gradient_at_kinks_is_a_legal_subgradient
from gradspec.properties.laws.layouts import layout_makes_no_difference
from gradspec.properties.laws.many_elements import cases_of_many_elements_agree
from gradspec.properties.laws.purity import calls_leave_no_trace
from gradspec.properties.laws.rare_cases import rare_cases_agree
from gradspec.properties.laws.second_order import make_moderate, second_derivatives_agree
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running import simplify
from gradspec.properties.running.explanations import explain
from gradspec.properties.running.failure import BackendLabel, LawViolation, format_command
from gradspec.properties.running.simpler_cases import count_characters_to_read, is_legal, list_telling_numbers
from gradspec.properties.running.simplify import fails_alike, simplify_case
from gradspec.properties.running.targets import OpUnderTest
from gradspec.reference import OPS, VJP
from tests.helpers.planting import make_backend_of_rules
from tests.helpers.pytest_runs import make_environment, run_script

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
    assert judgement.reason == "after a write to x the pullback gives a different gradient of y"


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
    assert (
        "as with torch's @once_differentiable; if there are to be no second derivatives, pass `nests=False`"
        in text
    )
    raised = Judgement("disagree", "raised RuntimeError: a function marked with @once_differentiable")
    failure = LawViolation(second_derivatives_agree, BackendLabel("kernels", "cpu", ""), case, raised)
    (line,) = explain(failure, kernels, judge_case)
    assert "is marked with torch's @once_differentiable; if there are to be" in line


def test_a_second_derivative_of_zero_is_told() -> None:
    kernels = make_torch_kernels(tanh=make_tanh_kernel(lambda f: f, hidden=True))
    case = Case.of("tanh", "float64", [0.75], {}, 1)
    text = show_failure(second_derivatives_agree, kernels, case, adapt=make_moderate).as_text()
    assert "autograd gives if it cannot differentiate the backward pass" in text


def test_a_gradient_that_is_zero_itself_is_not_called_hidden() -> None:
    flat = make_backend_of_rules(tanh=lambda x: (np.tanh(x), (lambda g: 0 * g,)))
    case = Case.of("tanh", "float64", [0.75], {}, 1)
    text = show_failure(second_derivatives_agree, flat, case, adapt=make_moderate).as_text()
    assert "derivative by" in text
    assert "cannot differentiate the backward pass" not in text


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
        "cotangent = np.array([1, 2], np.float32).repeat(2, 0)[::2]  # strided",
        "# thread_kernels.Silu.apply(x)",
    ]
    assert shown[4].startswith("# gradient of x: expected np.array([")
    assert shown[5].startswith("#                got      np.array([")
    assert shown[6].startswith("wrong: the gradient of x at")
    names: dict[str, Any] = {}
    exec("\n".join(shown[:6]), names)  # it can be pasted
    assert names["x"].dtype == np.float32


def run_printed_lines(law: Law, backend: Backend, case: Case) -> tuple[list[str], dict[str, Any]]:
    """Return the lines that a script prints of a case, and the names that running them defines."""
    judgement = judge_case(law, backend, case)
    assert judgement.verdict == "disagree"
    lines = [*describe_calls(law, backend, case), *describe_wrong_results(law, backend, case, judgement)]
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    return lines, names


def add_whose_float16_sums_stop(x: Any, y: Any) -> VJP:
    def pull_x(g: Any) -> Any:
        total = np.sum(g.astype(np.float64), axis=0)
        return np.minimum(total, 2048).astype(g.dtype)

    return x + y, (pull_x, lambda g: np.sum(g, axis=1, keepdims=True).astype(g.dtype))


def test_a_wrong_sum_of_thousands_of_numbers_can_be_pasted() -> None:
    letters = RNG.choice([1, 0.5, 0.625, 1.25], (4096, 2))
    case = Case.of("add", "float16", [[1.25, 0.5], letters[:, :1]], {}, letters)
    backend = make_backend_of_rules(add=add_whose_float16_sums_stop)
    shown = show_failure(cases_of_many_elements_agree, backend, case)
    assert isinstance(shown.case, Case)
    assert max(map(len, shown.as_text().splitlines())) < 120
    assert len(shown.as_script()) < 1200
    lines, names = run_printed_lines(cases_of_many_elements_agree, backend, shown.case)
    assert max(map(len, lines)) < 100
    for name, x in zip(("x", "y", "cotangent"), (*shown.case.inputs, shown.case.cotangent), strict=True):
        assert names[name].dtype == np.float16
        assert np.array_equal(names[name], x)
    assert lines[-2].startswith("# gradient of x: expected np.array([")


def test_large_arrays_become_constant_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simplify, "MAX_SIMPLIFY_TRIES", 2)
    x, g = RNG.uniform(1, 2, (2, 3000, 2))
    case = Case.of("add", "float64", [x, x[:1]], {}, g)
    shown = simplify_case(case, judge_by(lambda c: c.inputs[0].shape == (3000, 2)), smooth=False)
    assert np.all(shown.inputs[0] == 1)
    assert np.all(shown.cotangent == 1)
    by_x = judge_by(lambda c: bool(c.inputs[0].shape == (3000, 2) and c.inputs[0][1, 0] == x[1, 0]))
    monkeypatch.setattr(simplify, "MAX_SIMPLIFY_TRIES", 20)
    shown = simplify_case(case, by_x, smooth=False)
    assert find_period(shown.inputs[0]) == 4
    assert np.all(shown.cotangent == 1)


def exp_wrong_past_16_bits(x: Any) -> VJP:
    y = np.exp(x)
    wrong = np.roll(y, 1) if y.size > 65536 else y
    return wrong, (lambda g: g * y,)


def test_a_large_case_whose_numbers_matter_is_not_broken_by_making_it_short() -> None:
    (case,) = large(OPS["exp"], ["float32"])
    backend = make_backend_of_rules(exp=exp_wrong_past_16_bits)
    shown = show_failure(cases_of_many_elements_agree, backend, case)
    assert isinstance(shown.case, Case)
    assert len(shown.as_script()) < 2500
    assert judge_case(cases_of_many_elements_agree, load("numpy"), shown.case).verdict == "agree"


def test_a_law_of_many_elements_judges_large_arrays_that_do_not_repeat() -> None:
    x = np.resize([0.5, 1], LARGE_SIZE).astype(np.float32)
    case = Case.of("exp", "float32", [x], {}, np.ones(LARGE_SIZE))
    assert judge_case(cases_of_many_elements_agree, load("numpy"), case).verdict == "agree"


def test_results_of_too_many_numbers_are_shown_by_one() -> None:
    x = RNG.uniform(0.5, 1, 300)
    backend = make_backend_of_rules(exp=lambda x: (2 * np.exp(x), (lambda g: g * np.exp(x),)))
    case = Case.of("exp", "float64", [x], {}, np.ones(300))
    judgement = judge_case(value_agrees, backend, case)
    expected, got = describe_wrong_results(value_agrees, backend, case, judgement)
    assert judgement.wrong is not None
    assert expected.startswith(f"# value at {judgement.wrong.at}: expected np.array(")
    assert "got      np.array(" in got
    assert "zeros" not in expected + got


def maximum_of_no_gradient_at_ties(x: Any, y: Any) -> VJP:
    return np.maximum(x, y), (lambda g: g * (x > y), lambda g: g * (y > x))


def test_a_tie_is_told_in_plain_words_with_what_was_got() -> None:
    law, backend = (
        gradient_at_kinks_is_a_legal_subgradient,
        make_backend_of_rules(maximum=maximum_of_no_gradient_at_ties),
    )
    case = Case.of("maximum", "float64", [0.5, 0.5], {}, 3)
    assert judge_case(law, backend, case).reason == (
        "the gradient of x is 0: at a tie of x and y the gradients must sum to the cotangent 3, they sum to 0"
    )
    lines, _ = run_printed_lines(law, backend, case)
    assert lines[-4:] == [
        "# gradient of x: legal, e.g., np.array(1.5, np.float64)",
        "#                got           np.array(0, np.float64)",
        "# gradient of y: legal, e.g., np.array(1.5, np.float64)",
        "#                got           np.array(0, np.float64)",
    ]
    two = Case.of("maximum", "float64", [[0.5, 1, 7], [0.5, 1, 2]], {}, [2, 5, 1])
    assert judge_case(law, backend, two).reason == (
        "the gradient of x at (1,) is 0: at a tie of x at (1,) and y at (1,) "
        "the gradients must sum to the cotangent 5, they sum to 0"
    )


def test_a_tie_within_one_array_names_its_elements() -> None:
    def max_of_smaller_gradients(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
        value, (pull,) = OPS["max"].rule(x, axis=axis, keepdims=keepdims)  # type: ignore[misc]
        return value, (lambda g: pull(g) * 0.75,)  # type: ignore[misc]

    backend = make_backend_of_rules(max=max_of_smaller_gradients)
    case = Case.of("max", "float64", [[1, 3, 3]], {"axis": 0}, 4)
    assert judge_case(gradient_at_kinks_is_a_legal_subgradient, backend, case).reason == (
        "the gradient of x at (1,) is 1.5: at a tie of x at (1,) and x at (2,) "
        "the gradients must sum to the cotangent 4, they sum to 3"
    )


def test_what_should_be_a_number_and_is_nan_is_told_with_the_number() -> None:
    case = Case.of("exp", "float64", [[-np.inf, 0.5]], {}, [1, 1])
    for wrong, reason in [
        (np.nan, "the value at (1,) is nan, expected 1.64872127"),
        (np.inf, "the value at (1,) is inf, expected 1.64872127"),
    ]:

        def exp(x: Any, wrong: float = wrong) -> VJP:
            return np.where(x == np.float64(0.5), wrong, np.exp(x)), (lambda g: g * np.exp(x),)

        backend = make_backend_of_rules(exp=exp)
        assert judge_case(extremes_go_where_the_spec_says, backend, case).reason == reason


def test_a_function_is_called_by_its_public_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def custom_where() -> None: ...

    def hidden() -> None: ...

    custom_where.__module__, custom_where.__qualname__ = "lib.arrays", "custom_where"
    hidden.__module__, hidden.__qualname__ = "lib._core", "hidden"
    modules = {
        "lib": {},
        "lib._core": {"hidden": hidden, "gelu": hidden},
        "lib.arrays": {"custom_where": custom_where, "where": custom_where},
        "lib.nn.functional": {"gelu": hidden},
        "lib.nn": {"_gelu": hidden},
        "other.arrays": {"where": custom_where},
    }
    for name, attributes in modules.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    assert find_function_name(custom_where, np.ndarray, "where") == "lib.arrays.where"
    assert find_function_name(custom_where, np.ndarray, "select") == "lib.arrays.where"
    assert find_function_name(hidden, np.ndarray, "gelu") == "lib.nn.functional.gelu"
    monkeypatch.delitem(sys.modules, "lib.nn.functional")
    assert find_function_name(hidden, np.ndarray, "gelu") == "lib._core.hidden"


def test_torch_functions_have_the_names_of_its_documentation() -> None:
    torch = pytest.importorskip("torch")
    gelu, tanh = torch.nn.functional.gelu, torch.tanh
    assert find_function_name(gelu, torch.Tensor, "gelu") == "torch.nn.functional.gelu"
    assert find_function_name(tanh, torch.Tensor, "tanh") == "torch.tanh"


def test_a_script_ends_with_the_severity(tmp_path: Path) -> None:
    (tmp_path / "lax_kernels.py").write_text(
        "from gradspec.backends import load\n"
        "import numpy as np\nfrom dataclasses import replace\nfrom gradspec.reference import record\n"
        "right = load('numpy')\n"
        "def exp(x):\n    y, pulls = right.ops['exp'].rule(x)\n    return 2 * y, pulls\n"
        "backend = replace(right, ops={'exp': record(exp)})\n",
        encoding="utf-8",
    )
    for x, severity in ((0.5, "wrong"), (1e-300, "edge")):
        case = Case.of("exp", "float64", [x], {}, 1)
        label = BackendLabel("lax", "cpu", "lax_kernels:backend")
        script = LawViolation(value_agrees, label, case, Judgement("disagree", "...")).save(tmp_path)
        path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\nfrom"
        script.write_text(script.read_text(encoding="utf-8").replace("from", path, 1), encoding="utf-8")
        finished = run_script(script, tmp_path)
        assert (finished.returncode, finished.stderr) == (1, "")
        assert finished.stdout.splitlines()[-1].startswith(f"{severity}: the value is ")


def test_a_script_is_run_by_the_interpreter_that_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert format_command("x.py") == "python x.py"
    monkeypatch.setenv("PATH", "/nowhere")
    assert format_command("x.py").endswith(f"{Path(sys.executable).name} x.py")
    assert not format_command("x.py").startswith("python ")


def clip_whose_lower_bound_wins(x: Any, min: Any, max: Any) -> VJP:  # noqa: A002
    y, pullbacks = OPS["clip"].rule(x, min, max)
    return np.maximum(y, min), (lambda g: g, *pullbacks[1:])  # type: ignore[index]


@pytest.mark.parametrize("law", [rare_cases_agree, extremes_go_where_the_spec_says])
def test_a_case_off_kinks_is_not_moved_onto_one(law: Law) -> None:
    case = Case.of("clip", "float64", [[3.0, 3.0], [2.0, 2.0], [1.0, 1.0]], {}, [1, 1])
    shown = show_failure(law, make_backend_of_rules(clip=clip_whose_lower_bound_wins), case).case
    assert isinstance(shown, Case)
    assert not any(np.any(d == 0) for d in shown.compute_kink_distances()), shown
