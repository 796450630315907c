"""Flaky backends: a fault that takes luck or earlier calls is found, and its script reproduces it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, load
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.filling import fill_case
from gradspec.properties.cases.programs import Program
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.judging.judge_repeatedly import judge_case_repeatedly, vary_case
from gradspec.properties.laws.depth import Chain, a_chain_of_any_length_is_differentiated
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.reference import OPS, VJP, record
from gradspec.reference.calls import SeededChoices
from tests.helpers.forms import FORMS
from tests.helpers.planting import make_backend_of_ops
from tests.helpers.pytest_runs import run_properties, run_script

FLAKY_BACKENDS_SOURCE = """
import random
import numpy as np
from gradspec.backends import load
from gradspec.reference import record

seen = {}

def exp_of_the_first(x):
    y = np.exp(x)
    first = seen.setdefault((x.shape, x.dtype), y)
    return y, (lambda g: g * first,)

def sin_at_random(x):
    def pull(g):
        return g * np.cos(x) * (2 if random.random() < 0.3 else 1)
    return np.sin(x), (pull,)

numpy = load("numpy")
remembers = numpy.with_ops(name="remembers", dtypes={"float64"}, exp=record(exp_of_the_first))
gambles = numpy.with_ops(name="gambles", dtypes={"float64"}, sin=record(sin_at_random))
"""


@pytest.fixture
def backend_folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FLAKY_BACKENDS_SOURCE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["remembers", "gambles"])
def test_the_script_reproduces_what_one_call_does_not_show(backend_folder: Path, name: str) -> None:
    # Not `quick`: a first call shows nothing.
    options = (f"--backend=mine:{name}", "--no-isolate", "--hypothesis-profile=default")
    run = run_properties(backend_folder, *options, "-k", "gradient_agrees")
    assert run.status == 1, run.output
    (script,) = run.failure_scripts
    finished = run_script(script, backend_folder)
    assert finished.returncode == 1, finished.stdout + finished.stderr
    # One that gambles may lose at the first call.
    assert "depends on earlier calls" in finished.stdout or name == "gambles"
    assert len(script.read_text(encoding="utf-8").splitlines()) < 20


def test_a_cotangent_of_zeros_does_not_hide_it() -> None:
    results: list[Any] = []

    def exp_of_the_first(x: Any) -> VJP:
        y = np.exp(x)
        results.append(y)
        return y, (lambda g: g * results[0],)

    case = Case.of("exp", "float64", [[0, 0]], {}, [0, 0])
    faulty = make_backend_of_ops({"exp": record(exp_of_the_first)}, "remembers")
    assert judge_case_repeatedly(every_gradient_agrees, faulty, case).verdict == "disagree"


def test_a_right_backend_passes_however_often_it_is_tried() -> None:
    case = Case.of("exp", "float32", [[0, 1]], {}, [1, 2])
    assert judge_case_repeatedly(every_gradient_agrees, load("numpy"), case).verdict == "agree"


@pytest.mark.parametrize("name", sorted(name for name, form in FORMS.items() if form.differentiable))
def test_other_numbers_obey_the_law_as_well(name: str) -> None:
    block = np.random.default_rng(0).integers(0, 256, 64, np.uint8)
    op = FORMS[name]
    right: Backend = make_backend_of_ops({op.name: OPS[op.name].apply}, "spec")
    for seed in range(4):
        case = fill_case(op, op.draw_call(SeededChoices(seed)), "float64", block)
        others = [vary_case(case, k) for k in range(4)]
        assert all(judge_case(every_gradient_agrees, right, other).verdict == "agree" for other in others)


def test_the_others_differ() -> None:
    case = Case.of("exp", "float64", [[0, 0]], {}, [1, 2])
    assert len({vary_case(case, k).inputs[0].tobytes() for k in range(4)}) == 4
    program = Program("float64", 0, (((1, 1), "real", 0),), (("sin", (-1,), {}),))
    assert [vary_case(program, k).seed for k in range(3)] == [1, 2, 3]


def test_what_has_no_others_is_tried_alone() -> None:
    law, case = a_chain_of_any_length_is_differentiated, Chain("float64", 9)
    assert judge_case_repeatedly(law, load("numpy"), case).verdict == "agree"
