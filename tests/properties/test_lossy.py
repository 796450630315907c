"""Two circles: what is within the noise of a usual formula alone is lossy, neither right nor wrong."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.judging.judge import ComputationJudge, Judge
from gradspec.properties.judging.judgement import Judgement, combine_judgements
from gradspec.reference import OPS, VJP, op
from gradspec.reference.domains import Real
from tests.helpers.pytest_runs import PytestRun, run_properties, run_script

DTYPES = ("float64", "float32", "float16", "bfloat16")
FAR = {"float64": 20.0, "float32": 12.0, "float16": 6.0, "bfloat16": 5.0}
"""Where tanh is 1 to the last digit of the dtype, but its slope is a normal number."""


def judge_tanh(dtype: str, x: Sequence[float], gradient: Sequence[Any]) -> Judgement:
    case = Case.of("tanh", dtype, [x], {}, np.ones(len(x)))
    return Judge(case).judge_gradient("x", np.array(gradient).astype(dtype_of(dtype)))


def compute_slope(x: float) -> float:
    """Return the slope of tanh, 1 / cosh^2, to the last digit of float64."""
    return float(1 / np.cosh(np.longdouble(x)) ** 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_usual_formula_is_lossy_where_it_loses_digits(dtype: str) -> None:
    x = FAR[dtype]
    judgement = judge_tanh(dtype, [x, 0.5], [0.0, compute_slope(0.5)])
    assert judgement.verdict == "lossy"
    assert judgement.loss > 1
    assert judgement.worst <= 1
    assert "at (0,) is 0" in judgement.reason


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "spoil",
    [lambda s: np.nan, lambda s: np.inf, lambda s: -s, lambda s: 1.0],
    ids=["nan", "inf", "sign", "1"],
)
def test_what_no_formula_gives_is_wrong(dtype: str, spoil: Callable[[float], float]) -> None:
    x = FAR[dtype]
    assert judge_tanh(dtype, [x, 0.5], [spoil(compute_slope(x)), compute_slope(0.5)]).verdict == "disagree"


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_stable_formula_gives_agrees(dtype: str) -> None:
    x = [FAR[dtype], 0.5, 1.0, -2.0]
    judgement = judge_tanh(dtype, x, [compute_slope(float(v)) for v in np.array(x).astype(dtype_of(dtype))])
    assert (judgement.verdict, judgement.loss) == ("agree", 0)


def twice_tanh(x: Real) -> Any:
    return 2 * np.tanh(x)


def gated(x: Real) -> Any:
    return x * np.tanh(x)


def judge_formula(formula: Any, dtype: str, x: Sequence[float], compute: Callable[[Any, Any], Any]) -> str:
    """Return the verdict on a formula's gradient, computed in float32 or wider from x and its tanh."""
    case = Case.of(op("()->()")(formula).address, dtype, [x], {}, np.ones(len(x)))
    wide = case.inputs[0].astype(np.float64 if dtype == "float64" else np.float32)
    y = np.tanh(wide).astype(dtype_of(dtype)).astype(wide.dtype)
    return Judge(case).judge_gradient("x", compute(wide, y).astype(dtype_of(dtype))).verdict


@pytest.mark.usefixtures("restored_registry")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_usual_formula_of_an_op_within_a_formula_is_lossy(dtype: str) -> None:
    """A right kernel computes 1 - y * y where the formula says tanh, which has that as a usual formula."""
    far = [FAR[dtype], 0.5]
    assert judge_formula(twice_tanh, dtype, far, lambda x, y: 2 * (1 - y * y)) == "lossy"
    assert judge_formula(twice_tanh, dtype, far, lambda x, y: 2 / np.cosh(x) ** 2) == "agree"
    many = list(np.linspace(-FAR[dtype], FAR[dtype], 41))
    assert judge_formula(gated, dtype, many, lambda x, y: y + x * (1 - y * y)) in ("agree", "lossy")


@pytest.mark.usefixtures("restored_registry")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "compute",
    [
        lambda x, y: -2 / np.cosh(x) ** 2,
        lambda x, y: 2 * (1 + y * y),
        lambda x, y: 2 * (1 - y * y) * np.nan,
        lambda x, y: 2 * (1 - y),
    ],
    ids=["sign", "plus", "nan", "square"],
)
def test_what_no_formula_of_an_op_within_a_formula_gives_is_wrong(dtype: str, compute: Any) -> None:
    assert judge_formula(twice_tanh, dtype, [FAR[dtype], 0.5], compute) == "disagree"


def test_a_usual_formula_that_overflows_allows_nothing() -> None:
    def naive(x: Any) -> VJP:
        e = np.exp(-x)  # overflows below -710
        return 1 / (1 + e), (lambda g: g * e / (1 + e) / (1 + e),)

    form = replace(OPS["sigmoid"], usual_rules=(naive,))
    case = replace(Case.of("sigmoid", "float64", [[-720.0, 1.0]], {}, [1.0, 1.0]), op=form)
    exact = Judge(case).exact.gradients["x"].astype(np.float64)
    assert exact[0] > 0
    assert Judge(case).judge_gradient("x", exact).verdict == "agree"
    assert Judge(case).judge_gradient("x", exact * [np.nan, 1]).verdict == "disagree"
    assert Judge(case).judge_gradient("x", exact * [1e6, 1]).verdict == "disagree"


def test_two_results_of_one_backend_are_never_lossy() -> None:
    case = Case.of("tanh", "float64", [[FAR["float64"], 0.5]], {}, [1.0, 1.0])
    slopes = np.array([compute_slope(20.0), compute_slope(0.5)])
    part = lambda r: r.gradients["x"]
    assert Judge(case).judge("gradient", slopes * [0, 1], part, expected=slopes).verdict == "agree"
    assert Judge(case).judge("gradient", slopes * [0, 2], part, expected=slopes).verdict == "disagree"


def test_the_noise_of_any_formula_is_the_largest() -> None:
    judge = ComputationJudge(
        "float64",
        lambda convert: convert(np.array([1.0, 1.0])),
        usual=[lambda convert: convert(np.array([1.5, np.nan]))],
    )
    noise = judge.measure_noise_of_any_formula(lambda x: x, 2)
    assert noise[0] >= 0.5
    assert noise[1] == judge.measure_noise(lambda x: x, 2)[1]


def test_of_several_parts_the_worst_verdict_and_the_largest_loss_count() -> None:
    small, large = Judgement("lossy", "small", loss=10.0, elements=3), Judgement("lossy", "large", loss=99.0)
    agree, wrong = Judgement("agree", elements=2, undecidable_elements=1), Judgement("disagree", "wrong")
    whole = combine_judgements([small, agree, large])
    assert (whole.verdict, whole.reason, whole.loss) == ("lossy", "large", 99.0)
    assert (whole.elements, whole.undecidable_elements) == (5, 1)
    assert combine_judgements([large, wrong]).verdict == "disagree"


def test_an_element_as_small_as_what_is_allowed_is_undecidable() -> None:
    """One-pass sums: the first difference is lost in the noise of the second sum's terms."""
    x = np.array([1.0, 2.0**-60, -1.0])
    judge = Judge(Case.of("sum", "float64", [x], {}, 1.0))
    exact = judge.exact.value
    assert exact == 2.0**-60
    judgement = judge.judge_value(np.array(0.0))
    assert judgement.verdict == "undecidable"
    assert (judgement.elements, judgement.undecidable_elements) == (1, 1)


LOSSY_BACKEND_SOURCE = """
from dataclasses import replace
import numpy as np
from gradspec.backends import load
from gradspec.reference import record

def tanh(x):
    y = np.tanh(x)
    return y, (lambda g: g * (1 - y * y),)

right = load("numpy")
backend = replace(right, name="usual", ops={"tanh": record(tanh)})
"""


def run_on_lossy_backend(folder: Path, *arguments: str) -> PytestRun:
    (folder / "mine.py").write_text(LOSSY_BACKEND_SOURCE, encoding="utf-8")
    options = ("--backend=mine:backend", "--dtype=float64", "--hypothesis-profile=default")
    return run_properties(folder, *options, "-k", "every_gradient_agrees", *arguments)


@pytest.mark.parametrize("isolation", ["--isolate", "--no-isolate"])
def test_a_loss_is_shown_and_does_not_fail(tmp_path: Path, isolation: str) -> None:
    run = run_on_lossy_backend(tmp_path, "--matrix=out.json", isolation)
    assert run.status == 0
    (line,) = [line for line in run.output.split("\n") if line.startswith("lossy  tanh on usual: ")]
    assert re.search(r"off by [\d.e-]+ \(the stable formula allows [\d.e-]+, a usual one [\d.e-]+\)", line)
    assert "≈" in run.output
    (script,) = run.failure_scripts
    assert line.endswith(f"python failures/{script.name}")
    assert run_script(script, tmp_path).returncode == 1
    (entry,) = read_matrix(run)["entries"]
    assert (entry["outcome"], entry["severity"]) == ("passed", "lossy")
    assert entry["tally"]["lossy"] > 0
    assert entry["tally"]["loss"] > 1


@pytest.mark.parametrize("isolation", ["--isolate", "--no-isolate"])
def test_a_loss_fails_when_asked_for(tmp_path: Path, isolation: str) -> None:
    run = run_on_lossy_backend(tmp_path, "--fail-on=wrong,lossy", isolation)
    assert run.status == 1
    assert "lossy  tanh on usual (cpu) loses digits: every gradient agrees" in run.output
    (script,) = run.failure_scripts
    finished = run_script(script, tmp_path)
    assert finished.returncode == 1
    assert "lossy: the gradient of x" in finished.stdout


def test_an_unknown_severity_is_refused_in_a_line(tmp_path: Path) -> None:
    run = run_on_lossy_backend(tmp_path, "--fail-on=lossey")
    assert run.status == 4
    assert "--fail-on lossey: no such severity as 'lossey'; did you mean 'lossy'" in run.output


def read_matrix(run: PytestRun) -> Any:
    return json.loads((run.folder / "out.json").read_text(encoding="utf-8"))
