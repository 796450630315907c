"""Subnormal numbers: it is found out which backends flush them, and only what that explains is right."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from itertools import islice
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, load
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.extremes import iterate_extreme_cases
from gradspec.properties.cases.programs import Program
from gradspec.properties.cases.rare import of_every_size
from gradspec.properties.cases.reproducible import ReprCase
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.judging.judge import Judge
from gradspec.properties.judging.subnormals import allow_flushing, flushes_subnormals, get_smallest_normal
from gradspec.properties.laws.depth import Chain
from gradspec.properties.laws.extremes import extremes_go_where_the_spec_says
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.tensor_like_torch import TensorProgramCase
from gradspec.properties.laws.training import TrainingCase
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.declined import format_flushing
from gradspec.properties.running.tally import PropertyResult, Tally
from gradspec.reference import OPS, VJP, record
from gradspec.reference.rule import Array
from tests.helpers.planting import make_backend_of_ops

TINY = get_smallest_normal("float32")

SUBNORMAL_OPS = ("multiply", "divide", "sqrt", "reciprocal", "log", "abs", "maximum", "pow", "relu", "less")
"""Ops whose results show that an input counts as zero, or that lie on a kink if it does."""

Change = Callable[[Array], Array]


def keep(x: Array) -> Array:
    return x


def flush(x: Array, limit: float = TINY) -> Array:
    """Return x with zeros in place of smaller numbers."""
    zeros: Array = np.copysign(0, x)
    return x if x.dtype.kind != "f" else np.asarray(np.where(np.abs(x) < limit, zeros, x), x.dtype)


def change_rule(name: str, change_input: Change, change_result: Change) -> Callable[..., VJP]:
    """Return the rule of an op, with what it takes and what it gives changed."""

    @wraps(OPS[name].rule)
    def rule(*xs: Array, **keywords: Any) -> VJP:
        value, pullbacks = OPS[name].rule(*map(change_input, xs), **keywords)
        if pullbacks is None:
            return change_result(np.asarray(value)), None
        assert not callable(pullbacks)
        changed = tuple(p and _change_pullback(p, change_input, change_result) for p in pullbacks)
        return change_result(np.asarray(value)), changed

    return rule


def _change_pullback(pullback: Change, change_input: Change, change_result: Change) -> Change:
    return lambda g: change_result(np.asarray(pullback(change_input(g))))


def make_flushing_backend(
    *names: str, change_input: Change = flush, change_result: Change = flush
) -> Backend:
    """Return a backend of ops that change what they take and give; it has `multiply` to be asked by."""
    rules = {name: change_rule(name, change_input, change_result) for name in {*names, "multiply"}}
    backend = make_backend_of_ops({name: record(rule) for name, rule in rules.items()})
    return replace(backend, dtypes={"float32"})


def find_reasons(backend: Backend, name: str) -> list[str]:
    """Return why cases of an op disagree, among extreme ones and ones of every size, in float32."""
    extreme = [*islice(iterate_extreme_cases(OPS[name], "float32"), None, None, 2)]
    every_size = [*of_every_size(OPS[name], ["float32"], range(-150, 128))]
    tries = [(extremes_go_where_the_spec_says, extreme), (value_agrees, every_size)]
    if OPS[name].differentiable:
        tries.append((every_gradient_agrees, every_size))
    judgements = [judge_case(law, backend, case) for law, cases in tries for case in cases]
    return [judgement.reason for judgement in judgements if judgement.verdict == "disagree"]


# The probe


@pytest.mark.parametrize("name", ["multiply", "divide", "matmul", "linear"])
@pytest.mark.parametrize(
    ("change_input", "change_result", "flushes"),
    [
        (keep, keep, False),
        (flush, flush, True),
        (keep, flush, True),
        (flush, keep, True),
        (keep, lambda x: x if x.size < 4096 else flush(x), True),  # where it computes with vectors
        (keep, lambda x: x if x.size > 1 else flush(x), True),
        (keep, lambda x: x * np.nan, False),
        (keep, lambda x: x + 1, False),
        (keep, lambda x: x[:0], False),
    ],
)
def test_a_backend_is_asked_whether_it_flushes(
    name: str, change_input: Change, change_result: Change, flushes: bool
) -> None:
    rule = change_rule(name, change_input, change_result)
    backend = make_backend_of_ops({name: record(rule)})
    assert flushes_subnormals(backend, "float32") == flushes


def raise_always(*_: Any) -> Any:
    raise RuntimeError("not here")


def test_a_backend_that_cannot_be_asked_holds_subnormals() -> None:
    assert not flushes_subnormals(make_backend_of_ops({"exp": OPS["exp"]}), "float32")
    assert not flushes_subnormals(make_backend_of_ops({"multiply": raise_always}), "float32")


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_neither_the_spec_nor_torch_flushes(name: str) -> None:
    backend = load(name)
    assert not [dtype for dtype in backend.dtypes if flushes_subnormals(backend, dtype)]


def test_a_dtype_is_asked_by_itself() -> None:
    change = lambda x: flush(x) if x.dtype == np.float32 else x
    backend = make_flushing_backend(change_input=change, change_result=change)
    assert not flushes_subnormals(backend, "float64")
    assert flushes_subnormals(backend, "float32")


def test_every_kind_of_case_has_a_dtype_to_ask_for() -> None:
    kinds = ReprCase.__subclasses__()
    assert {TensorProgramCase, TrainingCase, Chain, Program} <= {*kinds}
    assert [kind for kind in kinds if "dtype" not in kind.__annotations__] == []


# What is right


@pytest.mark.parametrize("name", SUBNORMAL_OPS)
def test_what_flushing_explains_is_right(name: str) -> None:
    assert not find_reasons(make_flushing_backend(name), name)


@pytest.mark.parametrize("name", ["divide", "sqrt", "pow"])
def test_it_is_wrong_where_the_backend_holds_subnormals(name: str) -> None:
    """What multiplies without flushing is not excused where it flushes."""
    backend = make_flushing_backend(name)
    backend = replace(backend, ops={**backend.ops, "multiply": OPS["multiply"]})
    assert find_reasons(backend, name)


@pytest.mark.parametrize(
    ("change_input", "change_result"),
    [
        (lambda x: flush(x, 1e-30), flush),  # normal numbers, too
        (flush, lambda x: flush(x, 1e-30)),
        (lambda x: flush(x, 4 * TINY), flush),
        (flush, lambda x: flush(x, 8 * TINY)),
        (lambda x: np.where((x != 0) & (np.abs(x) < TINY), np.float32(np.nan), x), flush),
        (lambda x: np.where((x != 0) & (np.abs(x) < TINY), np.float32(TINY), x), flush),
    ],
    ids=[
        "inputs of 1e-30",
        "results of 1e-30",
        "inputs next to it",
        "results next to it",
        "NaN",
        "rounds up",
    ],
)
def test_no_more_is_right_than_flushing_explains(change_input: Change, change_result: Change) -> None:
    backend = make_flushing_backend("divide", change_input=change_input, change_result=change_result)
    backend = replace(backend, ops={**backend.ops, **make_flushing_backend().ops})
    assert flushes_subnormals(backend, "float32")
    assert find_reasons(backend, "divide")


def judge_value(op: str, inputs: list[Any], got: Any, dtype: str = "float32", **keywords: Any) -> str:
    """Return the verdict on a value of a backend that flushes subnormal numbers."""
    shape = np.shape(OPS[op].rule(*map(np.array, inputs), **keywords)[0])
    case = Case.of(op, dtype, inputs, keywords, np.ones(shape))
    judge = Judge(case)
    got = np.array(got)
    with allow_flushing(True):
        return judge.judge_value(got if got.dtype.kind in "biu" else got.astype(dtype_of(dtype))).verdict


def test_a_result_below_the_smallest_normal_number_may_be_zero() -> None:
    case = Case.of("multiply", "float32", [[1e-20, 1.0], [1e-20, 1.0]], {}, [1, 1])
    zero = np.array([0, 1], np.float32)
    assert Judge(case).judge_value(zero).verdict == "disagree"
    assert judge_value("multiply", [[1e-20, 1.0], [1e-20, 1.0]], [0, 1]) == "agree"
    assert judge_value("multiply", [[1e-20, 1.0], [1e-20, 1.0]], [-0.0, 1]) == "agree"
    assert judge_value("multiply", [[1e-20, 1.0], [1e-20, 1.0]], [1e-40, 1]) == "agree"
    assert judge_value("multiply", [[1e-20, 1.0], [1e-20, 1.0]], [2e-40, 1]) == "disagree"
    assert judge_value("multiply", [[1e-20, 1.0], [1e-20, 1.0]], [np.nan, 1]) == "disagree"
    assert judge_value("multiply", [[1e-18, 1.0], [1e-19, 1.0]], [0, 1]) == "disagree"  # a normal number


@pytest.mark.parametrize(
    ("op", "inputs", "right", "wrong"),
    [
        ("divide", [[1e-40], [1e-20]], [1e-20, 0], [1e-21, np.nan, np.inf]),
        ("sqrt", [[1e-40]], [1e-20, 0], [5e-21, np.nan]),
        ("log", [[1e-40]], [np.log(1e-40), -np.inf], [-80, 0, np.inf]),
        ("reciprocal", [[1e-38]], [1e38, np.inf, -np.inf], [0, np.nan, 1e37]),
        ("pow", [[1e-40], [0.5]], [1e-20, 0], [1, np.nan]),
    ],
)
def test_an_input_below_it_may_count_as_zero(
    op: str, inputs: list[Any], right: list[float], wrong: list[float]
) -> None:
    assert "disagree" not in {judge_value(op, inputs, [number]) for number in right}
    assert "agree" not in {judge_value(op, inputs, [number]) for number in wrong}


def test_comparisons_may_take_it_for_zero() -> None:
    inputs = [[0.0, 1.0], [1e-40, 2.0]]
    assert judge_value("less", inputs, [True, True]) == "agree"
    assert judge_value("less", inputs, [False, True]) == "agree"
    assert judge_value("less", inputs, [True, False]) == "disagree"


def judge_gradient_of_relu(x: float, slope: float) -> str:
    judge = Judge(Case.of("relu", "float32", [[x]], {}, [2.0]))
    with allow_flushing(True):
        return judge.judge_gradient("x", np.array([2 * slope], np.float32)).verdict


def test_at_a_kink_that_it_may_lie_on_any_subgradient_is_right() -> None:
    assert {judge_gradient_of_relu(1e-40, slope) for slope in (0, 0.5, 1)} == {"agree"}
    assert {judge_gradient_of_relu(1e-40, slope) for slope in (-0.5, 1.5, np.nan)} == {"disagree"}
    assert judge_gradient_of_relu(1e-37, 0) == "disagree"


def test_a_sum_may_lose_products_below_it() -> None:
    """Of 2 t + 0.3 t, where t is the smallest normal number, a machine that flushes gives 2 t."""
    inputs = [np.full((1, 2), TINY), np.array([[2.0], [0.3]])]
    assert judge_value("matmul", inputs, [[2 * TINY]]) == "agree"
    assert judge_value("matmul", inputs, [[2.3 * TINY]]) == "agree"
    assert judge_value(
        "matmul", [x * s for x, s in zip(inputs, (2**10, 1), strict=True)], [[2**11 * TINY]]
    ) == ("disagree")


# What is shown


def test_the_dtypes_that_a_backend_flushes_in_are_shown() -> None:
    case = Case.of("multiply", "float32", [[1.0], [1.0]], {}, [1.0])
    judgement = judge_case(value_agrees, make_flushing_backend(), case)
    assert judgement.flushing == "float32"
    assert not judge_case(value_agrees, load("numpy"), case).flushing
    tally = Tally()
    tally.add(judgement)
    other = Tally(flushing=["float64"])
    entries = [PropertyResult("test_x", "multiply", "mine", "passed", t) for t in (tally, other, Tally())]
    entries.append(PropertyResult("test_x", "multiply", "numpy", "passed", Tally(judged=3)))
    (line,) = format_flushing(entries)
    assert line.plain == "flushes subnormal numbers  mine: float64, float32"
