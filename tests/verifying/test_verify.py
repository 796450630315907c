"""`gradspec.verify`: what it says, what it judges by, and what it leaves alone."""

import random
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import settings
from hypothesis.database import InMemoryExampleDatabase

import gradspec
from gradspec import VJP, Array, Real, op
from gradspec.backends import Declined, load
from gradspec.properties.verifying.against import declare
from gradspec.properties.verifying.report import Report
from gradspec.reference import OPS
from tests.helpers.pytest_runs import ROOT, make_environment

torch = pytest.importorskip("torch")

from tests.verifying import norms  # noqa: E402 - needs torch
from tests.verifying.functions import SHAPES, WrongSilu, fail, fault_in, silu  # noqa: E402

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


def test_a_report_is_a_few_lines_to_read() -> None:
    report = Report(
        op="silu",
        backend="torch",
        dtypes=("float64", "float32"),
        laws=("value agrees", "every gradient agrees"),
        cases=1204,
        informative=0.915,
        declined=0,
        lossy=0,
        loss=0.0,
        margin=0.046,
        left_out=("second derivatives agree: nests=False",),
    )
    assert str(report).splitlines() == [
        "agrees with silu on torch in float64, float32",
        "  1,204 cases by 2 laws; 92% of the cases could have shown an error",
        "  the largest error was 0.05 of what is allowed",
        "  not asked: second derivatives agree (nests=False)",
    ]
    partly = replace(report, declined=5, lossy=3, loss=12.34, margin=None, left_out=())
    assert str(partly).splitlines()[2:] == [
        "  lossy: 3 cases, by up to 12 times what is allowed",
        "  declined: 5 cases",
    ]


def test_a_report_is_shown_in_the_documents_as_it_is() -> None:
    """But for its numbers, which depend on what is drawn."""
    shown = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8").partition("agrees with silu on torch")
    text = shown[1] + shown[2].partition("\n```")[0]
    report = gradspec.verify(torch.nn.functional.silu, "silu", seed=1, examples=1)
    assert re.sub(r"\d+", "#", str(report)) == re.sub(r"\d+", "#", text)


def test_every_field_of_a_report_is_documented() -> None:
    documented = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
    assert [f.name for f in fields(Report) if f"`{f.name}`" not in documented] == []


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
        ((silu, "silu"), {"dtypes": torch.float32}, TypeError, "dtypes=torch.float32 is one name"),
        ((silu, "silu"), {"dtypes": [torch.int8]}, ValueError, "'int8' is no dtype of torch"),
        ((silu, "silu"), {"dtype": "float32"}, TypeError, "no argument 'dtype'; did you mean 'dtypes'"),
        ((silu, "silu"), {"atol": 1e-3}, TypeError, "no argument 'atol'; there are backend, dtypes"),
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


def test_dtypes_may_be_those_of_a_library() -> None:
    dtypes = [torch.bfloat16, np.float32, np.dtype("float64")]
    report = gradspec.verify(silu, "silu", dtypes=dtypes, seed=0, examples=1)
    assert report.dtypes == ("float64", "float32", "bfloat16")


def test_an_unknown_argument_of_parametrize_is_named() -> None:
    with pytest.raises(TypeError, match="parametrize has no argument 'dtype'; did you mean 'dtypes'"):
        gradspec.parametrize({"silu": silu}, dtype="float32")  # type: ignore[arg-type]


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
    settings.register_profile("of this test", settings(), derandomize=False, database=database)
    before = settings.get_current_profile_name()
    settings.load_profile("of this test")
    try:
        fail(norms.mean_over_first_axis, norms.rms_norm, seed=1)
        assert vars(database)["data"] == {}
        fail(norms.mean_over_first_axis, norms.rms_norm, seed=None)
        assert vars(database)["data"]
    finally:
        settings.load_profile(before)


def test_no_second_derivatives_are_asked_for_that_there_are_not() -> None:
    fn, name = fault_in("second derivatives agree")
    report = gradspec.verify(fn, name, nests=False, seed=0)
    assert "second derivatives agree: nests=False" in report.left_out
    assert not any("second" in law for law in report.laws)
