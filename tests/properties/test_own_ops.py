"""An op that is declared outside of gradspec is verified as those of gradspec are.

In a process of its own, by several processes, with deviations, declined calls, crashes and scripts. Its
declaration is tried before any kernel.
"""

import json
from pathlib import Path

import pytest

from tests.helpers.pytest_runs import PytestRun, run_properties, run_script

DECLARATION = """
import os
import numpy as np
from gradspec import Array, Real, VJP, op
from gradspec.backends import Declined, load
from gradspec.reference import OPS, record

@op("(*b,n),(n)->(*b,n)", eps=[1e-6, 1e-2])
def rms_norm(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight

@op("()->()")
def tanh(x: Real) -> Array:  # not that of the spec
    return np.sin(x) * 3
"""

BACKENDS = """
def forget_the_mean(x, weight, *, eps=1e-6):
    scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    return x * scale * weight, (lambda g: g * weight * scale, lambda g: g * x * scale)

def crash(x, weight, *, eps=1e-6):
    if np.ndim(x) > 1:
        os.abort()
    return rms_norm(x, weight, eps=eps)

def decline(x, weight, *, eps=1e-6):
    if np.ndim(x) > 1:
        raise Declined("batches")
    return rms_norm(x, weight, eps=eps)

spec = load("numpy")
right = spec.with_ops(name="right", rms_norm=rms_norm)
wrong = spec.with_ops(name="wrong", rms_norm=record(forget_the_mean))
crashing = spec.with_ops(name="crashing", rms_norm=crash)
deviating = spec.with_ops(
    name="deviating",
    rms_norm=record(forget_the_mean),
    known={"rms_norm: every gradient agrees": "forgets it", "mine:rms_norm: value agrees": "no longer"},
)
declining = spec.with_ops(name="declining", rms_norm=decline, declines={"rms_norm": "batches"})
both = spec.with_ops({tanh: tanh, "exp": OPS["exp"]}, name="both")
swapped = spec.with_ops({tanh: OPS["tanh"]}, name="swapped")
"""

WRONG_DECLARATION = """
import numpy as np
from gradspec import Real, VJP, op
from gradspec.backends import load
from gradspec.reference import OPS, record

@op("()->()")
def cube(x: Real) -> VJP:
    return x * x * x, (lambda g: g * (2 * x * x),)

def right(x):
    return x * x * x, (lambda g: g * (3 * x * x),)

backend = load("numpy").with_ops(name="right", cube=record(right))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(DECLARATION + BACKENDS, encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


def read_entries(run: PytestRun) -> dict[tuple[str, str, str], str]:
    """Return the outcomes of a run by op, backend and property."""
    matrix = json.loads((run.folder / "matrix.json").read_text(encoding="utf-8"))
    return {(e["op"], e["backend"], e["property"]): e["outcome"] for e in matrix["entries"]}


def verify(
    folder: Path, *arguments: str, op: str = "rms_norm", select: str = "gradient_agrees or spec"
) -> PytestRun:
    return run_properties(folder, f"--op={op}", "--matrix=matrix.json", "-k", select, *arguments)


@pytest.mark.rotating
@pytest.mark.parametrize("processes", [[], ["-n2"], ["--no-isolate"]], ids=["own", "xdist", "this"])
def test_a_right_kernel_passes_and_a_wrong_one_fails(folder: Path, processes: list[str]) -> None:
    run = verify(folder, "--backend=mine:right", "--backend=mine:wrong", *processes)
    assert run.status == 1, run.output
    outcomes = read_entries(run)
    assert outcomes["mine:rms_norm", "right", "test_every_gradient_agrees"] == "passed"
    assert outcomes["mine:rms_norm", "wrong", "test_every_gradient_agrees"] == "failed"
    assert outcomes["mine:rms_norm", "spec", "test_spec_agrees_with_numerical_differentiation"] == "passed"
    assert outcomes["mine:rms_norm", "spec", "test_spec_is_as_stable_as_its_function"] == "passed"
    (script,) = [path for path in run.failure_scripts if "every_gradient" in path.name]
    assert f"sys.path[:0] = [{str(folder)!r}]" in script.read_text(encoding="utf-8")
    reproduced = run_script(script, folder / "elsewhere")
    assert reproduced.returncode == 1, reproduced.stderr
    assert "x = np.array([1], np.float64)\n" in reproduced.stdout  # one row of one number: the smallest case
    assert "# mine.forget_the_mean(x, weight" in reproduced.stdout
    assert "wrong: the gradient of x" in reproduced.stdout.splitlines()[-1]


@pytest.mark.rotating
def test_a_crash_is_blamed_on_its_case_and_reproduced(folder: Path) -> None:
    run = verify(folder, "--backend=mine:crashing", select="every_gradient_agrees")
    assert "unsafe  mine:rms_norm on crashing (cpu) breaks a law: every gradient agrees" in run.output
    assert "x         = [[0]]\n" in run.output
    (script,) = [path for path in run.failure_scripts if "rms_norm" in path.name]
    reproduced = run_script(script, folder / "elsewhere")
    assert reproduced.returncode == 1, reproduced.stderr
    assert "# rms_norm(x, weight" in reproduced.stdout
    assert "unsafe: the process was killed by SIGABRT" in reproduced.stdout


@pytest.mark.rotating
def test_what_is_declared_of_an_own_op_counts(folder: Path) -> None:
    """By its name or its address; a law that is declared and not broken is told after a whole run."""
    selected = ("--hypothesis-profile=default", "--backend=mine:deviating", "--backend=mine:declining")
    run = run_properties(folder, *selected, "--op=rms_norm", "--matrix=matrix.json")
    outcomes = read_entries(run)
    assert outcomes["mine:rms_norm", "deviating", "test_every_gradient_agrees"] == "known"
    assert outcomes["mine:rms_norm", "deviating", "test_cases_of_many_elements_agree"] == "failed"
    assert outcomes["mine:rms_norm", "declining", "test_value_agrees"] == "passed"
    assert (
        "deviating: mine:rms_norm: value agrees is declared to deviate (no longer), but agreed" in run.output
    )
    assert "declined  mine:rms_norm on declining" in run.output
    assert "but never was: remove it from `declines`" not in run.output


@pytest.mark.rotating
def test_an_own_op_and_one_of_the_spec_with_its_name(folder: Path) -> None:
    backends = ("--backend=mine:both", "--backend=mine:swapped", "--backend=numpy")
    run = verify(folder, *backends, op="tanh", select="value_agrees or spec_agrees")
    assert read_entries(run) == {
        ("mine:tanh", "spec", "test_spec_agrees_with_numerical_differentiation"): "passed",
        ("tanh", "spec", "test_spec_agrees_with_numerical_differentiation"): "passed",
        ("mine:tanh", "both", "test_value_agrees"): "passed",
        ("mine:tanh", "swapped", "test_value_agrees"): "failed",
        ("tanh", "numpy", "test_value_agrees"): "passed",
    }


@pytest.mark.rotating
def test_a_wrong_declaration_is_told_before_a_kernel_is_blamed(folder: Path) -> None:
    (folder / "bad.py").write_text(WRONG_DECLARATION, encoding="utf-8")
    run = verify(folder, "--backend=bad:backend", op="cube")
    trial, blamed = (run.output.find(f"wrong  bad:cube on {name} (cpu)") for name in ("spec", "right"))
    assert 0 < trial < blamed
    assert (
        "so the declaration of bad:cube is wrong: mend it first, since backends" in run.output[trial:blamed]
    )
    assert "the declaration of bad:cube fails too, see above" in run.output[blamed:]
    matrix = json.loads((folder / "matrix.json").read_text(encoding="utf-8"))
    (script,) = [path for path in run.failure_scripts if "numerical" in path.name]
    reproduced = run_script(script, folder / "elsewhere")
    assert reproduced.returncode == 1, reproduced.stderr
    assert "# bad.cube(x)" in reproduced.stdout
    stability = next(
        e for e in matrix["entries"] if e["property"] == "test_spec_is_as_stable_as_its_function"
    )
    assert stability["tally"]["judged"] > 4  # quick: two examples of two cases


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--op=nowhere:cube"], "--op: no op 'nowhere:cube': there is no module 'nowhere'; is its folder on"),
        (
            ["--op=mine:rms"],
            "--op: no op 'mine:rms': module mine does not declare it; did you mean ",
        ),
        (["--backend=mine:both", "--op=rms_norm"], "--op rms_norm: no such op; did you mean "),
        (["--backend=mine:right", "--op=rms_nom"], "--op rms_nom: no such op; did you mean 'rms_norm' or "),
        (
            ["--backend=undeclared:backend", "--op=rms"],
            "--backend: backend 'x': there is no op 'rms', unless you",
        ),
        (
            ["--backend=here:backend"],
            "--backend: no op 'here:cube': importing here raised RuntimeError: twice",
        ),
    ],
)
@pytest.mark.rotating
def test_what_is_wrong_with_an_own_op_is_told_in_one_line(
    folder: Path, arguments: list[str], line: str
) -> None:
    undeclared = "from gradspec.backends import load\nbackend = load('numpy').with_ops(name='x', rms=abs)"
    (folder / "undeclared.py").write_text(undeclared, encoding="utf-8")
    once = "import sys\nif 'pytest' in sys.modules:\n    raise RuntimeError('twice')\n"
    (folder / "here.py").write_text(once + WRONG_DECLARATION, encoding="utf-8")
    run = run_properties(folder, *arguments)
    assert run.status == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {line}" in run.output
    assert "Traceback" not in run.output
