"""The law of stability finds the usual formulas, which lose digits, in the place of the spec's own."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from gradspec.backends.backend import DTYPES
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.filling import draw_byte_block, fill_case
from gradspec.properties.judging.judge import SPEC_BACKEND
from gradspec.properties.laws.stability import (
    SCALES,
    is_function_of_one_argument,
    make_grid_case,
    rounds,
    scale_inputs,
    second_derivatives_are_as_stable_as_the_function,
    spec_is_as_stable_as_its_function,
)
from gradspec.reference import OPS, VJP, Op, record
from gradspec.reference.calls import SeededChoices
from gradspec.reference.rule import Array

USUAL_FORMS = {
    f"{op.name}{rule.__name__}": (op, i) for op in OPS.values() for i, rule in enumerate(op.usual_rules)
}


def iterate_cases(op: Op, dtype: str, count: int) -> Iterator[Case]:
    """Yield drawn cases in all scales and, of functions of one argument, numbers of all sizes."""
    for keywords in [{k: v} for k, values in op.options.items() for v in values] or [{}]:
        if is_function_of_one_argument(op):
            yield make_grid_case(op, dtype, keywords)
    for seed in range(count):
        call = op.draw_call(SeededChoices(seed, (2, 3, 1, 5)))
        case = fill_case(op, call, dtype, draw_byte_block(call, np.random.default_rng(seed)))
        yield from (scale_inputs(case, factor) for factor in SCALES)


def is_stable(case: Case) -> bool:
    laws = spec_is_as_stable_as_its_function, second_derivatives_are_as_stable_as_the_function
    return all(law(SPEC_BACKEND, case).verdict == "agree" for law in laws)


def measure_worst_loss(op: Op, dtype: str, count: int = 6) -> float:
    """Return the largest loss of a first derivative or the value; 1 is what is allowed."""
    law = spec_is_as_stable_as_its_function
    return max(law(SPEC_BACKEND, case).worst for case in iterate_cases(op, dtype, count))


@pytest.mark.rotating
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", USUAL_FORMS)
def test_a_usual_formula_in_the_place_of_the_stable_one_is_found(name: str, dtype: str) -> None:
    op, i = USUAL_FORMS[name]
    assert measure_worst_loss(op.usual_forms[i], dtype) > 1
    assert measure_worst_loss(op, dtype) < 1


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.usual_rules])
def test_second_derivatives_of_ops_with_usual_formulas_are_stable(name: str) -> None:
    assert all(is_stable(case) for case in iterate_cases(OPS[name], "float64", 3))


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "silu", "expm1", "softmax"])
def test_second_derivatives_of_usual_formulas_are_not_stable(name: str) -> None:
    law = second_derivatives_are_as_stable_as_the_function
    for form in OPS[name].usual_forms:
        verdicts = {law(SPEC_BACKEND, case).verdict for case in iterate_cases(form, "float64", 3)}
        assert "disagree" in verdicts


def test_second_derivatives_of_softmax_are_stable_where_two_elements_prevail() -> None:
    """They get the same cotangent: how far apart they are is all that moves them."""
    for ties in ([0, 0, 8, 0, 8], [0, 20, 0, 0, 20]):
        case = Case.of("softmax", "float64", [ties], {"axis": 0}, np.sign(ties))
        assert is_stable(case)
        for usual in case.op.usual_forms:
            assert not is_stable(replace(case, op=usual))


def make_layer_norm_case(row: list[float]) -> Case:
    x, ones = np.array([row], np.float64), np.ones(len(row))
    return Case(OPS["layer_norm"], "float64", (x, ones, ones), {}, np.full(x.shape, 1.5))


@pytest.mark.parametrize("row", [[1.0, 2.5], [0.0, 1.0, 0.0], [0.5, 0.5, 0.5, -1.0], [1e-3, -1e-3, 2e-3, 1]])
def test_layer_norm_is_stable_where_one_element_has_all_variance_and_its_usual_formula_is_not(
    row: list[float],
) -> None:
    case = make_layer_norm_case(row)
    (usual,) = case.op.usual_forms
    assert is_stable(case)
    assert not is_stable(replace(case, op=usual))


@pytest.mark.parametrize("row", [[1], [1, 2.5, 4.25], [1, 1, -1, -1], [0.5, 0.25, 0.75, -1], [0.5, 0.5, 0.5]])
def test_layer_norm_is_stable_elsewhere(row: list[float]) -> None:
    assert is_stable(make_layer_norm_case(row))


def var_of_squares(x: Array) -> VJP:
    centred = x - np.mean(x)
    return np.mean(x * x) - np.mean(x) * np.mean(x), (lambda g: g * centred * 2 / x.size,)


def log1p_of_the_sum(x: Array) -> VJP:
    return np.log(1 + x), (lambda g: g / (1 + x),)


def softplus_by_the_logarithm(x: Array) -> VJP:
    y = np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x)))
    return y, OPS["softplus"].rule(x)[1]


@pytest.mark.parametrize(
    ("name", "rule", "inputs"),
    [
        ("var", var_of_squares, [1000.0, 1001.0, 1001.0]),
        ("log1p", log1p_of_the_sum, [1e-9, 0.5]),
        ("softplus", softplus_by_the_logarithm, [-40.0, 1.0]),
    ],
)
def test_other_formulas_that_lose_digits_are_found(name: str, rule: object, inputs: list[float]) -> None:
    x = np.array(inputs)
    case = Case(OPS[name], "float64", (x,), {}, np.array(3.0 if name == "var" else [3.0, -0.5]))
    law = spec_is_as_stable_as_its_function
    planted = replace(case, op=replace(OPS[name], rule=rule, apply=record(rule)))  # type: ignore[arg-type]
    judgement = law(SPEC_BACKEND, planted)
    assert judgement.verdict == "disagree"
    assert "rounding in the spec's formula moves the value" in judgement.reason
    assert law(SPEC_BACKEND, case).verdict == "agree"


def test_ops_that_round_are_found_by_trying() -> None:
    assert not any(
        rounds(OPS[name]) for name in ("negative", "abs", "reshape", "getitem", "maximum", "where")
    )
    assert all(rounds(OPS[name]) for name in ("multiply", "tanh", "sum", "layer_norm", "divide", "square"))
