"""Ops that decline calls: these are counted and shown with reasons, and no way to pass unseen."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, Declined, load
from gradspec.backends.backend import DeclaredDecline
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.programs import Program, Step
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.judging.judgement import Judgement
from gradspec.properties.judging.own_process import judge_case_in_own_process
from gradspec.properties.laws.bad_input import what_the_spec_refuses_raises
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.programs import every_gradient_of_a_program_agrees
from gradspec.properties.laws.second_order import second_derivatives_agree
from gradspec.properties.laws.value import value_agrees
from gradspec.reference import OPS, VJP
from tests.helpers.planting import make_backend_of_ops, make_backend_of_rules

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


without_vectors = make_declining_backend(exp=decline_vectors)


# One case


@pytest.mark.parametrize(
    ("judge", "backend"),
    [(judge_case, without_vectors), (judge_case_in_own_process, f"{__name__}:without_vectors")],
)
def test_a_call_that_an_op_declines_is_neither_right_nor_wrong(
    judge: Callable[..., Judgement], backend: Backend | str
) -> None:
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
    steps: tuple[Step, ...] = tuple((name, (k - 1 if k else ~0,), {}) for k, name in enumerate(names))
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
            "declined a call that `declines` of planted does not name: it raised Declined: vectors"
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
        ({"exp: value agrees": "x"}, "`declines` names 'exp: value agrees'"),
    ],
)
def test_an_entry_names_an_op_and_a_dtype_of_the_backend(declines: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint.replace("[", "\\[")):
        make_declining_backend(declines)
