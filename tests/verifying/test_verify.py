"""`gradspec.verify`: what it finds, what it says, what it leaves alone, and what it costs."""

import inspect
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import settings
from hypothesis.database import InMemoryExampleDatabase

import gradspec
from gradspec import VJP, Array, Real, op
from gradspec.backends import Declined, load
from gradspec.properties.running.tally import to_sentence
from gradspec.properties.verifying import laws_of_one, one_test
from gradspec.properties.verifying.against import declare
from gradspec.properties.verifying.laws_of_one import ALL_LAWS, LEFT_OUT
from gradspec.properties.verifying.request import Request
from gradspec.reference import OPS
from tests.faults.collected_properties import properties
from tests.helpers.pytest_runs import make_environment

torch = pytest.importorskip("torch")

from tests.verifying import norms  # noqa: E402 - needs torch

SHAPES = "(*b,n),(n)->(*b,n)"


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures and Hypothesis' examples go there."""
    monkeypatch.chdir(tmp_path)


def fail(fn: Any, against: Any, **options: Any) -> str:
    """The message of a function that is wrong."""
    with pytest.raises(AssertionError) as caught:
        gradspec.verify(fn, against, **{"seed": 1, **options})
    return str(caught.value)


def silu(x: Any) -> Any:
    return x * torch.sigmoid(x)


class WrongSilu(torch.autograd.Function):  # type: ignore[misc,name-defined]
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 + x - s)


# What it finds


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


def fault_in(law: str) -> tuple[Any, str]:
    """A function that breaks one kind of law alone, and the op it should be."""

    def write_to_input(x: Any) -> Any:
        value = torch.tanh(x)
        with torch.no_grad():
            x.mul_(1)
            x.add_(0.0) if x.numel() == 0 else x.view(-1)[0].add_(1)
        return value

    class FlatGradient(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(x.detach())
            return torch.tanh(x)

        @staticmethod
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            (x,) = ctx.saved_tensors
            with torch.no_grad():
                slope = 1 - torch.tanh(x) ** 2
            return g * slope

    by_law: dict[str, tuple[Any, str]] = {
        "calls leave no trace": (write_to_input, "tanh"),
        "second derivatives agree": (FlatGradient.apply, "tanh"),
        "shapes and dtypes are kept": (lambda x: torch.tanh(x).double(), "tanh"),
        "other arguments may be constants": (
            lambda x, y: x * (y if x.requires_grad else 2 * y - y.detach()),
            "multiply",
        ),
    }
    return by_law[law]


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


def test_an_exception_is_a_failure() -> None:
    def tanh(x: Any) -> Any:
        if x.ndim == 3:
            raise RuntimeError("no kernel of three axes")
        return torch.tanh(x)

    text = fail(tanh, "tanh")
    assert text.startswith("raises  tanh on tanh (cpu) breaks a law")
    assert "no kernel of three axes" in text


def test_once_a_law_has_failed_no_other_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []
    judge = one_test.OpUnderOneTest._judge_with_new_seed

    def note(self: Any, law: Callable[..., Any], case: Any) -> Any:
        judgement = judge(self, law, case)
        asked.append((law.__name__, judgement.verdict == "disagree"))
        return judgement

    monkeypatch.setattr(one_test.OpUnderOneTest, "_judge_with_new_seed", note)
    fail(norms.FAULTS["the cotangent is read as contiguous"], norms.rms_norm, dtypes=["float64"])
    first = next(k for k, (_, failed) in enumerate(asked) if failed)
    assert {law for law, _ in asked[:first]} > {"every_gradient_agrees"}
    assert {law for law, _ in asked[first:]} == {"layout_makes_no_difference"}
    assert len(asked) - first > 10  # it was shrunk


def test_every_property_of_an_op_is_asked_or_said_to_be_left_out() -> None:
    of_ops = {n for n, test in properties().items() if "op_under_test" in inspect.signature(test).parameters}
    left_out = {n for n in of_ops if any(text.startswith(to_sentence(n)) for text in LEFT_OUT)}
    assert of_ops - left_out == {*ALL_LAWS.list_names()}
    assert left_out == {"test_what_the_spec_refuses_raises"}
    for text in LEFT_OUT:
        assert text.split(":")[0] in [to_sentence(name) for name in properties()]


# What it says


def run(script: Path) -> subprocess.CompletedProcess[str]:
    environment = make_environment()
    return subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("formula", [False, True])
def test_the_script_of_a_failure_shows_it_again(tmp_path: Path, formula: bool) -> None:
    if formula:
        text = fail(norms.mean_over_first_axis, norms.rms_norm_formula, shapes=SHAPES, dtypes=["float32"])
    else:
        text = fail(norms.mean_over_first_axis, norms.rms_norm)
    (script,) = (tmp_path / "failures").glob("*.py")
    assert re.search(rf"reproduce: \S*python\S* failures/{re.escape(script.name)}$", text)
    assert script.with_suffix(".json").exists()
    assert len(script.read_text(encoding="utf-8").splitlines()) < 20
    again = run(script)
    assert again.returncode == 1, again
    assert again.stdout.splitlines()[-1].startswith("wrong: the value at")
    mended = script.read_text(encoding="utf-8").replace("mean_over_first_axis", "right")
    script.write_text(mended, encoding="utf-8")
    assert run(script).returncode == 0


def test_the_apply_of_a_function_is_found_by_its_class(tmp_path: Path) -> None:
    assert fail(WrongSilu.apply, "silu").startswith("wrong  silu on WrongSilu (cpu) breaks a law")
    (script,) = (tmp_path / "failures").glob("*.py")
    again = run(script)
    assert again.returncode == 1, again
    assert "WrongSilu.apply(x)" in again.stdout


@pytest.mark.parametrize("kind", ["lambda", "local"])
def test_what_has_no_address_gets_no_script(tmp_path: Path, kind: str) -> None:
    def double(x: Any) -> Any:
        return 2 * x

    fn = double if kind == "local" else lambda x: 2 * x
    text = fail(fn, "tanh")
    name = "double" if kind == "local" else "lambda"
    assert f"there is no script, since {name} is a lambda or local, and has no name in a module" in text
    (capsule,) = (tmp_path / "failures").iterdir()
    assert f"the case is in failures/{capsule.name}" in text


def test_a_folder_that_cannot_be_written_takes_nothing_away(tmp_path: Path) -> None:
    (tmp_path / "failures").write_text("", encoding="utf-8")
    text = fail(norms.mean_over_first_axis, norms.rms_norm)
    assert "expected" in text
    assert "script and case could not be written: a file is in the place of a folder" in text


def test_no_frame_of_gradspec_is_shown_by_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import gradspec\n\ndef double(x): return 2 * x\n\n"
        "def test_double(): gradspec.verify(double, 'tanh', backend='numpy')\n",
        encoding="utf-8",
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "-Werror",
        "--strict-markers",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=make_environment(), capture_output=True, text=True, check=False
    )
    assert "wrong  tanh on double (cpu) breaks a law" in done.stdout
    assert "reproduce: " in done.stdout
    assert not re.search(r"^\S*(properties|src/gradspec)/\S+:\d+", done.stdout, re.MULTILINE), done.stdout


# What it is judged by


def test_a_formula_is_an_op_only_as_long_as_it_is_judged_by() -> None:
    before = dict(OPS)
    report = gradspec.verify(norms.right, norms.rms_norm_formula, shapes=SHAPES, seed=0, dtypes=["float32"])
    assert report.op == "tests.verifying.norms:rms_norm_formula"
    assert before == OPS
    fail(norms.mean_over_first_axis, norms.rms_norm_formula, shapes="(n,m),(m)->(n,m)", dtypes=["float32"])
    assert before == OPS


def test_keywords_of_a_formula_come_from_its_signature() -> None:
    """The second value of eps tells one that was left out."""

    def forgets_eps(x: Any, weight: Any, *, eps: float = 1e-6) -> Any:
        return norms.right(x, weight)

    text = fail(forgets_eps, norms.rms_norm_formula, shapes=SHAPES, dtypes=["float64"])
    assert "eps       = 5e-07" in text


def pooled_formula(
    x: Real, *, how: Literal["mean", "sum"] = "sum", keep: bool = False, power: int = 2, scale: float = 3.0
) -> Array:
    y = np.mean(x, axis=-1, keepdims=keep) if how == "mean" else np.sum(x, axis=-1, keepdims=keep)
    return scale * y**power


def test_the_values_of_keywords_are_all_that_their_types_have() -> None:
    with declare(pooled_formula, "(*b,n)->(*b)", {"power": [2, 3]}, None) as declared:
        assert declared.options == {
            "how": ["sum", "mean"],
            "keep": [False, True],
            "power": [2, 3],
            "scale": [3.0, 1.5],
        }


def test_without_a_star_nothing_broadcasts() -> None:
    """The function takes two axes, no more and no fewer, and a bias of one."""

    def linear(x: Any, weight: Any, bias: Any) -> Any:
        assert (x.ndim, weight.ndim, bias.ndim) == (2, 2, 1)
        return torch.addmm(bias, x, weight.T)

    def formula(x: Real, weight: Real, bias: Real) -> Array:
        return x @ weight.T + bias

    report = gradspec.verify(linear, formula, shapes="(b,i),(o,i),(o)->(b,o)", seed=0, dtypes=["float32"])
    assert report.informative > 0.5
    with pytest.raises(ValueError, match="question marks where nothing broadcasts"):
        gradspec.verify(linear, formula, shapes="(b?,i),(o,i),(o)->(b?,o)")


def abs_formula(x: Real) -> Array:
    return np.abs(x)


def test_a_formula_with_kinks_says_so() -> None:
    with pytest.raises(ValueError, match="its formula has kinks, where it uses abs"):
        gradspec.verify(torch.abs, abs_formula, shapes="(*b)->(*b)")
    gradspec.verify(torch.abs, abs_formula, shapes="(*b)->(*b)", kinks=gradspec.points(0), seed=0, examples=2)


def test_a_rule_that_is_wrong_is_told_first() -> None:
    @op("()->()")
    def wrong_cube(x: Real) -> VJP:
        return x**3, (lambda g: 2 * g * x**2,)

    try:
        text = fail(lambda x: x**3, wrong_cube, dtypes=["float32"])
    finally:
        del OPS[wrong_cube.address]
    assert "wrong_cube on spec (cpu) breaks a law: spec agrees with numerical differentiation" in text
    assert "mend it first" in text


@pytest.mark.parametrize("against", [torch.tanh, np.tanh, lambda x: x])
def test_a_plain_function_is_refused(against: Any) -> None:
    with pytest.raises(TypeError, match=r"(is a plain function|has no domain for); allowed are the name"):
        gradspec.verify(silu, against, shapes="()->()")


# Whose arrays it takes


@pytest.mark.parametrize(
    ("fn", "name", "backend"),
    [(silu, "silu", "torch"), (torch.tanh, "tanh", "torch"), (np.tanh, "tanh", "numpy")],
)
def test_the_backend_is_that_of_the_arrays(fn: Any, name: str, backend: str) -> None:
    assert gradspec.verify(fn, name, seed=0, examples=1).backend == backend


def test_the_backend_may_be_named_or_given() -> None:
    assert gradspec.verify(silu, "silu", backend="torch", examples=1).backend == "torch"
    assert gradspec.verify(silu, "silu", backend=load("torch"), examples=1).backend == "torch"
    assert "no kernel for them" in fail(_refuse, "tanh", backend="numpy")


def _refuse(x: Any) -> Any:
    raise TypeError("no kernel for them")


def test_what_raises_for_all_arrays_is_told_as_torch_sees_it() -> None:
    assert "no kernel for them" in fail(_refuse, "tanh")


def test_what_is_declined_throughout_was_not_verified() -> None:
    def decline(x: Any) -> Any:
        raise Declined("not on Mondays")

    assert fail(decline, "tanh") == "decline declines every call: not on Mondays"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((3, "silu"), {}, TypeError, "verify takes a function of arrays first.* got 3, of type int"),
        ((WrongSilu, "silu"), {}, TypeError, "did you mean WrongSilu.apply"),
        ((silu, "sliu"), {}, ValueError, "no op 'sliu'; did you mean"),
        ((silu, 3), {}, TypeError, "against=3 is of type int; allowed are the name of an op"),
        ((silu, "silu"), {"shapes": "()->()"}, TypeError, "shapes= is for a formula; 'silu' is an op"),
        ((silu, norms.rms_norm_formula), {}, TypeError, "rms_norm_formula needs the shapes"),
        ((silu, "silu"), {"dtypes": "float32"}, TypeError, "dtypes='float32' is one name"),
        ((silu, "silu"), {"dtypes": ["float23"]}, ValueError, "'float23' is no dtype of torch; did you mean"),
        ((silu, "silu"), {"dtypes": []}, ValueError, "has none; there are float64"),
        ((silu, "silu"), {"backend": "touch"}, ValueError, "touch"),
        ((silu, "silu"), {"backend": 3}, TypeError, "backend=3 is neither the name of a backend nor"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(
    arguments: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gradspec.verify(*arguments, **options)


# What it leaves alone


def test_generators_and_warnings_are_left_as_they_were() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    gradspec.verify(silu, "silu", seed=0, examples=1)
    after = random.random(), np.random.random()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert after == (random.random(), np.random.random())  # noqa: NPY002


def test_a_seed_decides_all() -> None:
    assert gradspec.verify(silu, "silu", seed=3) == gradspec.verify(silu, "silu", seed=3)


def test_what_failed_is_remembered_without_a_seed() -> None:
    """A law that failed on a case that is seldom drawn fails again."""
    database = InMemoryExampleDatabase()
    settings.register_profile("of this test", settings(), database=database)
    before = settings.get_current_profile_name()
    settings.load_profile("of this test")
    try:
        fail(norms.mean_over_first_axis, norms.rms_norm, seed=1)
        assert database.data == {}
        fail(norms.mean_over_first_axis, norms.rms_norm, seed=None)
        assert database.data
    finally:
        settings.load_profile(before)


def test_no_second_derivatives_are_asked_for_that_there_are_not() -> None:
    fn, name = fault_in("second derivatives agree")
    report = gradspec.verify(fn, name, nests=False, seed=0)
    assert "second derivatives agree: nests=False" in report.left_out
    assert not any("second" in law for law in report.laws)


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
