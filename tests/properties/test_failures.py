"""Failures, the product: the smallest case, reported once, with a script that reproduces it anywhere."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradspec.backends import load
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.literals import format_as_numpy, literal
from gradspec.properties.cases.repetition import get_bits
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.judging.error_descriptions import describe_exception, make_printable
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.judging.process_server import CrashOrTimeout
from gradspec.properties.judging.shown_cases import describe_calls
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.failure import BackendLabel, LawViolation
from gradspec.reference import OPS
from tests.helpers.planting import make_backend_of_rules
from tests.helpers.pytest_runs import PytestRun, make_environment, run_properties, run_script

FAULTY_BACKEND_SOURCE = """
from dataclasses import replace
from gradspec.backends import load
from gradspec.reference import record

def multiply(x, y):
    z, (pull_x, pull_y) = right.ops["multiply"].rule(x, y)
    return z, (pull_y, pull_x)

right = load("numpy")
backend = replace(right, name="faulty", ops={"multiply": record(multiply), "tanh": right.ops["tanh"]})
"""


@pytest.fixture(scope="module")
def faulty_run(tmp_path_factory: pytest.TempPathFactory) -> PytestRun:
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "mine.py").write_text(FAULTY_BACKEND_SOURCE, encoding="utf-8")
    return run_properties(
        folder, "--backend=mine:backend", "-n2", "-k", "value or gradient_agrees or extremes"
    )


@pytest.mark.xdist_group("faulty run")
def test_a_failure_is_told_by_the_case(faulty_run: PytestRun) -> None:
    section = faulty_run.output.split("what disagrees")[1].split("= gradspec")[0]
    first = section.split("\n\n")[0]
    assert first.index("multiply on faulty (cpu) breaks a law:") < first.index("in float") < first.index("x ")
    assert "cotangent = " in first
    assert "expected" in first
    assert " is allowed)" in first
    assert "reproduce: python failures/" in first
    assert len(first.splitlines()) < 15


@pytest.mark.xdist_group("faulty run")
def test_under_xdist_the_matrix_is_complete(faulty_run: PytestRun) -> None:
    assert "multiply   ✗" in faulty_run.output
    assert "tanh       ✓" in faulty_run.output
    assert "not offered  faulty: " in faulty_run.output


@pytest.mark.xdist_group("faulty run")
def test_every_script_reproduces_from_another_folder(faulty_run: PytestRun, tmp_path: Path) -> None:
    assert faulty_run.failure_scripts
    for script in faulty_run.failure_scripts:
        finished = run_script(script, tmp_path)
        assert (finished.returncode, finished.stderr) == (1, ""), script
        assert len(script.read_text(encoding="utf-8").splitlines()) < 20
        capsule = json.loads(script.with_suffix(".json").read_text(encoding="utf-8"))
        assert capsule["backend"] == "mine:backend"
        assert capsule["case"]["op"] == "multiply"


@pytest.mark.xdist_group("faulty run")
def test_identical_failures_are_told_once(faulty_run: PytestRun) -> None:
    assert "also breaks: " in faulty_run.output
    section = faulty_run.output.split("what disagrees")[1].split("= gradspec")[0]
    assert len(faulty_run.failure_scripts) == section.count("reproduce: python")


# Cases that a script has to be able to write down.

bfloat16 = np.dtype(ml_dtypes.bfloat16)
CASES = {
    "slices": Case.of(
        "getitem", "float64", [[1, 2, 3]], {"key": (slice(None, None, -1), None, ...)}, [[1, 1, 1]]
    ),
    "arrays": Case.of("getitem", "float64", [[1, 2]], {"key": np.array([0, 0, 1])}, [1, 2, 3]),
    "no elements": Case.of("getitem", "float64", [[1.0, 2]], {"key": np.empty(0, np.int64)}, []),
    "masks": Case.of("getitem", "float64", [[1, 2]], {"key": (np.array([True, False]),)}, [1]),
    "empty": Case.of("add", "float32", [np.empty((0, 3)), [1, 2, 3]], {}, np.empty((0, 3))),
    "bfloat16": Case.of("multiply", "bfloat16", [[1.0078125], [-0.0]], {}, [3.5]),
    "inf and nan": Case.of("multiply", "float64", [[np.inf], [np.nan]], {}, [-np.inf]),
    "tiny": Case.of("exp", "float64", [[5e-324, 0.1]], {}, [1e308, 1 / 3]),
    "sequences": Case.of("concat", "float16", [[1.0], [2.0]], {"axis": -1}, [1, 2]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_script_writes_down_exactly_its_case(case: Case) -> None:
    script = make_violation(case).as_script()
    names: dict[str, Any] = {}
    exec(script.split("\nreproduce(")[0], names)  # up to where the backend is called
    copy: Case = names["case"]
    for x, y in zip((*copy.inputs, copy.cotangent), (*case.inputs, case.cotangent), strict=True):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes()
    assert str(copy.keywords) == str(case.keywords)
    dtypes, expected = ([getattr(k, "dtype", None) for k in c.keywords.values()] for c in (copy, case))
    assert dtypes == expected


def make_violation(case: Case, judgement: Judgement | None = None) -> LawViolation:
    judgement = judgement or Judgement("disagree", 'it said """no\\" and ended in a quote"')
    return LawViolation(value_agrees, BackendLabel('qu"ote\\', "cpu", "numpy"), case, judgement)


def test_a_script_of_a_right_backend_says_so(tmp_path: Path) -> None:
    finished = run_script(make_violation(CASES["bfloat16"]).save(tmp_path), tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")


CRASHING_BACKEND_SOURCE = """
import os
from dataclasses import replace
from pathlib import Path
from gradspec.backends import load
from gradspec.reference import record

COUNTER = Path(__file__).with_name("calls")

def tanh(x):
    with COUNTER.open("a") as file:
        file.write(".")
    if COUNTER.stat().st_size >= LUCKY:
        os._exit(3)
    return right.ops["tanh"].rule(x)

right = load("numpy")
backend = replace(right, name="lucky", ops={"tanh": record(tanh)})
"""


NO_CRASH = (
    "undecidable: it crashed or hung when it was found, but not in 10 tries: "
    "it does so at times, or has been fixed"
)


@pytest.mark.parametrize(
    ("lucky", "status", "last_line"),
    [
        (1, 1, "unsafe: the process exited with status 3"),
        (9, 1, "unsafe: the process exited with status 3"),
        (10**9, 2, NO_CRASH),
    ],
)
def test_a_crash_is_tried_again_and_never_cleared_by_luck(
    tmp_path: Path, lucky: int, status: int, last_line: str
) -> None:
    source = CRASHING_BACKEND_SOURCE.replace("LUCKY", str(lucky))
    (tmp_path / "lucky_kernels.py").write_text(source, encoding="utf-8")
    label = BackendLabel("lucky", "cpu", "lucky_kernels:backend")
    crash = CrashOrTimeout("disagree", "the process exited with status 3", time_limit=30)
    case = Case.of("tanh", "float64", [[0.5]], {}, [1])
    script = LawViolation(value_agrees, label, case, crash).save(tmp_path)
    path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\nfrom"
    script.write_text(script.read_text(encoding="utf-8").replace("from", path, 1), encoding="utf-8")
    finished = run_script(script, tmp_path)
    assert finished.stderr == ""
    assert (finished.returncode, finished.stdout.splitlines()[-1]) == (status, last_line)


def test_failures_are_saved_whole_and_leave_nothing_else(tmp_path: Path) -> None:
    make_violation(CASES["empty"]).save(tmp_path / "failures")
    assert sorted(p.suffix for p in (tmp_path / "failures").iterdir()) == [".json", ".py"]


# What a backend says


def test_what_a_backend_says_can_do_nothing() -> None:
    assert make_printable("a\x1b[31m\x00\r\ud800é✓\nb") == "a\\x1b[31m\\x00\\r\\ud800é✓\nb"
    assert len(make_printable("x" * 10_000)) < 600


def test_an_exception_whose_message_raises_is_told() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "raised Rude: (its message raised RuntimeError)" in describe_exception(Rude())


def test_a_result_that_is_no_array_is_named() -> None:
    case = CASES["tiny"]
    for result, text in ((None, "None (NoneType)"), ("a string", "'a string' (str)")):
        backend = make_backend_of_rules(exp=lambda x, r=result: (r, (lambda g: g,)))
        judgement = judge_case(value_agrees, backend, case)
        assert judgement.verdict == "disagree"
        assert text in judgement.reason or result is not None


def test_a_pullback_of_too_few_gradients_is_named() -> None:
    right = make_backend_of_rules(multiply=OPS["multiply"].rule)
    for gradients in (None, (), (1, 2, 3)):
        backend = replace(right, vjp=lambda fn, *xs, r=gradients: (fn(*xs), lambda g: r))
        judgement = judge_case(every_gradient_agrees, backend, CASES["inf and nan"])
        assert f"the pullback returned {gradients!r}" in judgement.reason


def test_a_script_needs_no_hypothesis(tmp_path: Path) -> None:
    script = make_violation(CASES["tiny"]).save(tmp_path)
    hide_both = "import sys; sys.modules['hypothesis'] = None; sys.modules['pytest'] = None"
    code = f"{hide_both}; exec(open({str(script)!r}).read())"
    finished = subprocess.run(
        [sys.executable, "-c", code], env=make_environment(), capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stderr) == (0, "")


def test_numbers_that_nobody_would_read_are_in_the_script_alone() -> None:
    places = np.random.default_rng(0).integers(0, 400, 300)
    numbers = np.random.default_rng(0).random(400)
    for case in (
        Case.of("exp", "float64", [numbers], {}, np.ones(400)),
        Case.of("getitem", "float64", [[1, 2]], {"key": (places, 0)}, np.ones(300)),
        Case.of("getitem", "float64", [[1, 2]], {"key": places}, np.ones(300)),
    ):
        assert max(map(len, case.as_lines())) < 100
        assert case.as_python().count(",") > 300


@pytest.mark.parametrize(
    ("number", "text"),
    [(-20, "-20"), (1000, "1000"), (1e20, "1e+20"), (1e5, "1e+05"), (2048, "2048"), (1e-20, "1e-20")],
)
def test_a_number_is_written_as_people_write_it(number: float, text: str) -> None:
    for dtype in (np.float64, np.float32):
        assert literal(np.array(number, dtype)) == text
        assert dtype(eval(text)) == dtype(number)


LETTERS = np.array([1, 0.5, 0.625, 1.25])
SHORT_ARRAYS: dict[str, tuple[np.ndarray[Any, Any], str]] = {
    "constant": (np.full((2048, 1), 0.1, np.float16), "np.full((2048, 1), 0.1, np.float16)"),
    "negative zeros": (-np.zeros(300, np.float32), "np.full((300,), -0.0, np.float32)"),
    "nan": (np.full(200, np.nan), "np.full((200,), np.nan, np.float64)"),
    "labels": (np.full(200, 3), "np.full((200,), 3, np.int64)"),
    "mask": (np.arange(300) < 299, "np.array(np.repeat([True, False], [299, 1]), np.bool)"),
    "periodic": (
        np.resize(LETTERS, (4096, 2)).astype(ml_dtypes.bfloat16),
        "np.array(np.resize([1, 0.5, 0.625, 1.25], (4096, 2)), ml_dtypes.bfloat16)",
    ),
    "periodic with zeros of both signs": (
        np.resize([0, -0.0, np.inf], 400),
        "np.array(np.resize([0, -0.0, np.inf], (400,)), np.float64)",
    ),
    "range": (np.arange(9, 309), "np.array(np.arange(9, 309), np.int64)"),
    "reversed range": (np.arange(300, 0, -1.0), "np.array(np.arange(300, 0, -1), np.float64)"),
    "rolled range": (np.roll(np.arange(300), 1), "np.array(np.roll(np.arange(300), 1), np.int64)"),
    "steps": (np.arange(200) * 0.5 + 3, "np.array((np.arange(200) * 0.5 + 3.0), np.float64)"),
    "a range, repeated": (
        np.resize(np.arange(61), 66049).astype(np.float32),
        "np.array(np.resize(np.arange(61), (66049,)), np.float32)",
    ),
    "equal rows": (
        np.repeat(np.arange(150.0), 2).reshape(150, 2),
        "np.array(np.repeat(np.arange(150), 2).reshape((150, 2)), np.float64)",
    ),
    "one hot": (
        np.eye(1, 500, 3),
        "np.array(np.repeat([0, 1, 0], [3, 1, 496]).reshape((1, 500)), np.float64)",
    ),
}


@pytest.mark.parametrize(("array", "expression"), SHORT_ARRAYS.values(), ids=SHORT_ARRAYS)
def test_many_numbers_are_written_as_what_they_are(array: np.ndarray[Any, Any], expression: str) -> None:
    assert format_as_numpy(array) == expression
    names = {"np": np, "ml_dtypes": ml_dtypes, "nan": np.nan, "inf": np.inf}
    (in_key,) = eval(literal((array,)), names) if array.dtype != "bfloat16" else (array,)
    for copy in (eval(expression, names), in_key, np.array(eval(literal(array), names), array.dtype)):
        assert (copy.dtype, copy.shape, copy.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("change", [lambda x: x * 3, lambda x: -x, lambda x: x + 1])
@pytest.mark.parametrize("name", SHORT_ARRAYS)
def test_one_other_number_is_never_lost(name: str, change: Any) -> None:
    array = SHORT_ARRAYS[name][0]
    for position in (0, 1, array.size // 2, array.size - 1):
        other = array.copy()
        old = other.reshape(-1)[position]
        other.reshape(-1)[position] = ~old if array.dtype == np.bool_ else change(old)
        expression = format_as_numpy(other)
        if expression is not None:
            copy = eval(expression, {"np": np, "ml_dtypes": ml_dtypes})
            assert np.array_equal(get_bits(copy), get_bits(other))


def test_what_has_no_short_expression_is_not_printed_as_other_numbers() -> None:
    numbers = np.random.default_rng(0).random(400)
    assert format_as_numpy(numbers) is None
    case = Case.of("exp", "float64", [numbers], {}, np.ones(400))
    x, cotangent = describe_calls(value_agrees, load("numpy"), case)[1:3]
    assert x == "x = case.inputs[0]  # 400 numbers, which the script has in full"
    assert cotangent == "cotangent = np.full((400,), 1, np.float64)"


@pytest.mark.parametrize("array", [np.array(0.0), np.array([1.0, 0.0]), np.array([True]), np.array(2)])
def test_the_literal_of_a_key_keeps_the_kind_of_its_arrays(array: np.ndarray[Any, Any]) -> None:
    (copy,) = eval(literal((array,)), {"np": np})
    assert (copy.dtype, copy.tolist()) == (array.dtype, array.tolist())


def test_what_a_lazy_library_raises_once_it_computes_is_an_exception() -> None:
    def compute(x: Any) -> Any:
        if np.any(np.asarray(x) == 7):
            raise ArithmeticError("cannot compile 7")
        return x

    lazy = replace(load("numpy"), name="lazy", to_numpy=compute)
    judgement = judge_case(value_agrees, lazy, Case.of("add", "float64", [[3.0], [4.0]], {}, [1]))
    assert judgement.raised
    assert judgement.reason.startswith("raised ArithmeticError: cannot compile 7\n  at ")
