"""Ops that decline calls: these are counted and shown with reasons, and no way to pass unseen."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, Declined, load
from gradspec.backends.backend import DeclaredDecline
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.programs import Program
from gradspec.properties.judging.attempt import judge_case, judge_case_in_fork
from gradspec.properties.judging.judgement import Judgement, combine_judgements
from gradspec.properties.laws.bad_input import what_the_spec_refuses_raises
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.programs import every_gradient_of_a_program_agrees
from gradspec.properties.laws.second_order import second_derivatives_agree
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.declined import find_stale_declines, format_declined
from gradspec.properties.running.tables import find_worst_outcome
from gradspec.properties.running.tally import MAX_REASONS, OTHER_REASONS, PropertyResult, Tally
from gradspec.properties.running.targets import MIN_CASES, BackendUnderTest
from gradspec.reference import OPS, VJP
from tests.helpers.planting import make_backend_of_ops, make_backend_of_rules
from tests.helpers.pytest_runs import copy_properties, run_properties

VECTOR = Case.of("exp", "float64", [[0.5, 1.0]], {}, [1.0, 2.0])
NUMBER = Case.of("exp", "float64", [0.5], {}, 2.0)


def decline_vectors(x: Any) -> Any:
    if x.ndim:
        raise Declined("vectors")
    return OPS["exp"](x)


def exp_of_numbers_with_gradient(x: Any) -> VJP:
    def pull(g: Any) -> Any:
        raise NotImplementedError("no gradient")

    return np.exp(x), (pull,)


def make_declining_backend(declines: dict[str, str] | None = None, **ops: Callable[..., Any]) -> Backend:
    """Return a backend of these ops in place of the spec's, which says what it declines or does not."""
    return replace(make_backend_of_ops({"exp": OPS["exp"], **ops}), declines=declines)


# One case


@pytest.mark.parametrize("judge", [judge_case, judge_case_in_fork])
def test_a_call_that_an_op_declines_is_neither_right_nor_wrong(judge: Callable[..., Judgement]) -> None:
    backend = make_declining_backend(exp=decline_vectors)
    judgement = judge(value_agrees, backend, VECTOR)
    assert (judgement.verdict, judgement.reason, judgement.informative) == ("declined", "vectors", False)
    assert judge(value_agrees, backend, NUMBER).verdict == "agree"


def test_a_pullback_may_decline() -> None:
    backend = replace(make_backend_of_rules(exp=exp_of_numbers_with_gradient), declines=None)
    assert judge_case(value_agrees, backend, NUMBER).verdict == "agree"
    judgement = judge_case(every_gradient_agrees, backend, NUMBER)
    assert (judgement.verdict, judgement.reason) == ("declined", "no gradient")


def test_to_decline_without_a_reason_says_so() -> None:
    def decline(x: Any) -> Any:
        raise NotImplementedError

    backend = make_declining_backend(exp=decline)
    assert judge_case(value_agrees, backend, NUMBER).reason == "no reason is given"


def test_a_nested_vjp_may_decline() -> None:
    def vjp(fn: Any, *inputs: Any) -> Any:
        if any(type(x).__name__ != "ndarray" for x in inputs):
            raise Declined("a vjp within another")
        return load("numpy").vjp(fn, *inputs)

    backend = replace(make_declining_backend(), vjp=vjp)
    assert judge_case(second_derivatives_agree, backend, VECTOR).reason == "a vjp within another"
    assert judge_case(every_gradient_agrees, backend, VECTOR).verdict == "agree"


def test_a_lazy_library_may_decline_when_it_computes() -> None:
    def to_numpy(x: Any) -> Any:
        raise Declined("on this device")

    backend = replace(make_declining_backend(), to_numpy=to_numpy)
    assert judge_case(value_agrees, backend, VECTOR).reason == "on this device"


def make_program(*names: str) -> Program:
    """Return a program of functions of one argument, one after the other."""
    steps = tuple((name, (k - 1 if k else ~0,), {}) for k, name in enumerate(names))
    return Program("float64", 1, (((2,), "normal", 0),), steps)


def test_a_program_is_declined_by_any_of_its_ops_and_says_which() -> None:
    backend = make_declining_backend(exp=decline_vectors, sin=OPS["sin"])
    judgement = judge_case(every_gradient_of_a_program_agrees, backend, make_program("sin", "exp"))
    assert (judgement.verdict, judgement.reason) == ("declined", "exp: vectors")
    assert judge_case(every_gradient_of_a_program_agrees, backend, make_program("sin")).verdict == "agree"


def test_a_refusal_may_be_no_answer() -> None:
    """Where the spec refuses, any error will do; where it has an answer, this error declines."""

    def decline_numbers(x: Any, y: Any) -> Any:
        if x.ndim and y.ndim and x.shape[-1] != y.shape[0]:
            raise NotImplementedError("shapes that differ")
        if x.ndim == 1 == y.ndim:
            raise NotImplementedError("vectors")
        return OPS["matmul"](x, y)

    backend = make_declining_backend(matmul=decline_numbers)
    bad = Case.of("matmul", "float64", [[1.0, 2.0], [1.0, 2.0, 3.0]], {}, 1.0)
    assert judge_case(what_the_spec_refuses_raises, backend, bad).verdict == "agree"
    good = Case.of("matmul", "float64", [[1.0, 2.0], [1.0, 2.0]], {}, 1.0)
    assert judge_case(what_the_spec_refuses_raises, backend, good).verdict == "declined"


def test_what_declines_everything_refuses_nothing() -> None:
    def decline(x: Any, y: Any) -> Any:
        raise NotImplementedError

    bad = Case.of("matmul", "float64", [[1.0, 2.0], [1.0, 2.0, 3.0]], {}, 1.0)
    backend = make_declining_backend(matmul=decline)
    assert judge_case(what_the_spec_refuses_raises, backend, bad).verdict == "declined"


def test_a_flat_op_that_declines_its_value_is_not_excused_as_one_without_gradient() -> None:
    def decline(x: Any) -> Any:
        raise NotImplementedError

    def decline_gradient(x: Any) -> Any:
        if not isinstance(x, np.ndarray | np.generic):
            raise NotImplementedError
        return np.sign(x)

    case = Case.of("sign", "float64", [[2.0]], {}, [1.0])
    assert judge_case(every_gradient_agrees, make_declining_backend(sign=decline), case).verdict == "declined"
    backend = make_declining_backend(sign=decline_gradient)
    assert judge_case(every_gradient_agrees, backend, case).verdict == "agree"


# What a backend says it declines


@pytest.mark.parametrize(
    ("declines", "verdict"),
    [
        (None, "declined"),
        ({}, "disagree"),
        ({"exp": "not all"}, "declined"),
        ({"exp[float64, float32]": "not all"}, "declined"),
        ({"exp[float32]": "not all"}, "disagree"),
        ({"sin": "not all"}, "disagree"),
    ],
)
def test_a_backend_that_says_what_it_declines_may_decline_nothing_else(
    declines: dict[str, str] | None, verdict: str
) -> None:
    backend = make_declining_backend(declines, exp=decline_vectors, sin=OPS["sin"])
    judgement = judge_case(value_agrees, backend, VECTOR)
    assert judgement.verdict == verdict
    if verdict == "disagree":
        assert (
            "declined what `declines` of planted does not name: it raised Declined: vectors"
            in judgement.reason
        )
    elif declines:
        assert judgement.reason == f"{next(iter(declines))}: not all"


def test_in_a_program_what_one_op_may_decline_excuses_no_other() -> None:
    backend = make_declining_backend({"sin": "not all"}, exp=decline_vectors, sin=OPS["sin"])
    program = make_program("sin", "exp")
    assert judge_case(every_gradient_of_a_program_agrees, backend, program).verdict == "disagree"
    backend = replace(backend, declines={"exp": "not all"})
    assert judge_case(every_gradient_of_a_program_agrees, backend, program).reason == "exp: not all"


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_the_built_in_backends_decline_nothing(name: str) -> None:
    """Whatever they declined would fail: every property of theirs is tried with it."""
    assert load(name).declines == {}


def test_kernels_of_ones_own_are_not_held_to_what_their_library_says() -> None:
    assert load("numpy").with_ops(name="mine", exp=decline_vectors).declines is None
    mine = load("numpy").with_ops(name="mine", declines={"exp": "vectors"}, exp=decline_vectors)
    assert mine.declared_declines == [DeclaredDecline("exp", "exp", frozenset(), "vectors")]


@pytest.mark.parametrize(
    ("declines", "complaint"),
    [
        ({"sin": "x"}, "`declines` names op 'sin', which is not in `ops`"),
        ({"exp[float16]": "x"}, "`declines` names dtype 'float16', which is not in `dtypes`"),
        ({"exp: value agrees": "x"}, "`declines` names op 'exp:'"),
    ],
)
def test_an_entry_names_an_op_and_a_dtype_of_the_backend(declines: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint.replace("[", "\\[")):
        make_declining_backend(declines)


def make_entry(op: str = "exp", outcome: str = "passed", **tally: Any) -> PropertyResult:
    return PropertyResult("test_value_agrees", op, "mine", outcome, Tally(judged=200, **tally))


@pytest.mark.parametrize(
    ("entries", "count"),
    [
        ([make_entry()], 1),
        ([make_entry(), make_entry(declined=1, decline_reasons={"exp: not all": 1})], 0),
        ([make_entry(), make_entry("sin", declined=1, decline_reasons={"exp: not all": 1})], 1),
        ([make_entry(declined=1, decline_reasons={"exp[float32]: not all": 1})], 1),
        ([make_entry(outcome="failed")], 0),
        ([make_entry("sin")], 0),
    ],
)
def test_an_entry_by_which_nothing_is_declined_is_reported(entries: list[PropertyResult], count: int) -> None:
    complaints = find_stale_declines(entries, {"mine": [DeclaredDecline.parse("exp", "not all")]})
    assert len(complaints) == count
    assert all(c.startswith("mine: exp is declared to be declined in part (not all)") for c in complaints)


# What is counted


def test_declined_cases_are_counted_by_their_reasons() -> None:
    tally = Tally()
    for reason in ("vectors", "bfloat16", "vectors"):
        tally.add(Judgement("declined", reason, informative=False))
    tally.add(Judgement("agree"))
    assert (tally.judged, tally.informative, tally.declined) == (4, 1, 3)
    assert tally.decline_reasons == {"vectors": 2, "bfloat16": 1}
    total = tally + tally
    assert (total.declined, total.decline_reasons) == (6, {"vectors": 4, "bfloat16": 2})
    assert tally.decline_reasons == {"vectors": 2, "bfloat16": 1}
    assert pickle.loads(pickle.dumps(tally)) == tally
    entry = PropertyResult("test_value_agrees", "exp", "mine", "passed", tally)
    assert PropertyResult.from_json(json.loads(json.dumps(entry.as_json()))) == entry


def test_no_more_reasons_are_kept_than_can_be_read() -> None:
    tally = Tally()
    for k in range(2 * MAX_REASONS):
        tally.add(Judgement("declined", f"shape {k}", informative=False))
    assert len(tally.decline_reasons) == MAX_REASONS + 1
    assert tally.decline_reasons[OTHER_REASONS] == MAX_REASONS
    assert sum((tally + tally).decline_reasons.values()) == 4 * MAX_REASONS


def test_a_case_is_declined_if_a_part_of_it_is() -> None:
    declined, agree = Judgement("declined", "vectors", informative=False), Judgement("agree")
    assert combine_judgements([agree, declined]).verdict == "declined"
    assert combine_judgements([Judgement("disagree"), declined]).verdict == "disagree"


@pytest.mark.parametrize(
    ("judged", "declined", "informative", "untested"),
    [
        (MIN_CASES, 0, MIN_CASES // 10, False),
        (MIN_CASES, 0, MIN_CASES // 10 - 1, True),
        (10 * MIN_CASES, 9 * MIN_CASES, MIN_CASES // 10, False),  # of those that are not declined
        (10 * MIN_CASES, 9 * MIN_CASES, MIN_CASES // 10 - 1, True),
        (
            10 * MIN_CASES,
            10 * MIN_CASES - 5,
            5,
            True,
        ),  # next to nothing is left, though it all says something
        (10 * MIN_CASES, 10 * MIN_CASES, 0, False),  # not offered
        (MIN_CASES - 1, MIN_CASES - 2, 1, False),
    ],
)
def test_what_is_left_must_say_something(
    judged: int, declined: int, informative: int, untested: bool
) -> None:
    tally = Tally(judged, informative, elements=judged - declined, declined=declined)
    target = BackendUnderTest(backend=load("numpy"), dtypes=["float64"], tally=tally)
    if untested:
        with pytest.raises(AssertionError, match="untested"):
            target.require_informative_cases()
    else:
        target.require_informative_cases()


def test_a_line_for_each_op_says_how_much_it_declines_and_why() -> None:
    reasons = {"vectors": 120, "bfloat16": 40}
    some = make_entry("matmul", informative=40, declined=68, decline_reasons=reasons)
    every = make_entry("inv", outcome="declined", declined=200, decline_reasons={"\x1b[31m": 200})
    hardly = make_entry("exp", informative=199, declined=1, decline_reasons={str(k): 1 for k in range(7)})
    blank, *lines = format_declined([some, every, hardly, make_entry("sin", informative=200)])
    assert not blank.plain
    assert [line.plain for line in lines] == [
        "not offered  inv on mine: every case: \\x1b[31m (200)",
        "declined  matmul on mine: 34% of 200 cases: vectors (120), bfloat16 (40)",
        "declined  exp on mine: less than 1% of 200 cases: 0 (1), 1 (1), 2 (1), 3 (1) and 3 more",
    ]
    assert not [*format_declined([make_entry("sin", informative=200)])]


def test_what_is_not_offered_gets_no_tick() -> None:
    declined = make_entry(outcome="declined", declined=200)
    assert find_worst_outcome([declined]) == "declined"
    assert find_worst_outcome([declined, make_entry()]) == "passed"


# A run

DECLINING_SOURCE = """
from dataclasses import replace
from gradspec.backends import Declined, load

right = load("numpy")

def matmul(x, y):
    if x.ndim < 2 or y.ndim < 2:
        raise Declined("vectors")
    return right.ops["matmul"](x, y)

def tanh(x):
    raise NotImplementedError("one day")

ops = {"matmul": matmul, "tanh": tanh, "exp": right.ops["exp"]}
mine = replace(right, name="mine", ops=ops, declines=None)
strict = replace(mine, declines={"matmul": "matrices alone", "tanh": "one day"})
wrong = replace(mine, declines={"matmul": "matrices alone"})
stale = replace(mine, declines={"matmul": "matrices alone", "tanh": "one day", "exp": "never"})
"""


def run_declining(folder: Path, attribute: str, *options: str) -> Any:
    (folder / "mine.py").write_text(DECLINING_SOURCE, encoding="utf-8")
    properties = copy_properties(folder, "test_value.py")
    fixed = (f"--backend=mine:{attribute}", "--matrix=out.json", "--hypothesis-profile=default")
    return run_properties(folder, *fixed, *options, properties=properties)


@pytest.mark.rotating
@pytest.mark.parametrize("isolation", ["--isolate", "--no-isolate"])
def test_a_run_shows_what_was_declined_and_passes(tmp_path: Path, isolation: str) -> None:
    run = run_declining(tmp_path, "mine", isolation)
    assert run.status == 0
    assert "not offered  tanh on mine: every case: one day (" in run.output
    (line,) = [line for line in run.output.split("\n") if line.startswith("declined  matmul on mine: ")]
    assert "% of " in line
    assert ": vectors (" in line
    (row,) = [line for line in run.output.split("\n") if line.startswith("tanh ")]
    assert "–" in row
    assert "✓" not in row
    entries = {e["op"]: e for e in json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["entries"]}
    assert (entries["tanh"]["outcome"], entries["matmul"]["outcome"]) == ("declined", "passed")
    tally = entries["matmul"]["tally"]
    assert tally["decline_reasons"] == {"vectors": tally["declined"]}
    assert tally["judged"] > tally["declined"] > 0


@pytest.mark.rotating
@pytest.mark.parametrize(
    ("attribute", "status", "text"),
    [
        ("strict", 0, "declined  matmul on mine: "),
        (
            "wrong",
            1,
            "declined what `declines` of mine does not name: it raised NotImplementedError: one day",
        ),
        ("stale", 1, "error  mine: exp is declared to be declined in part (never), but never was"),
    ],
)
def test_a_run_holds_a_backend_to_what_it_says(
    tmp_path: Path, attribute: str, status: int, text: str
) -> None:
    run = run_declining(tmp_path, attribute, "--no-isolate")
    assert run.status == status
    assert text in run.output
