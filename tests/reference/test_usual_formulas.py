"""Usual formulas of an op: other forms of it, which declaring it compares with the stable one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradspec.reference import OPS, Tensor, op
from gradspec.reference.calls import Call, SeededChoices
from gradspec.reference.declaration import CALLS_TO_COMPARE, COMPARED_LENGTHS
from gradspec.reference.domains import Positive, Real
from gradspec.reference.rule import VJP
from tests.reference.test_op_declaration import catch_refusal_message, double

pytestmark = pytest.mark.usefixtures("restored_registry")


def by_halves(x: Real) -> VJP:
    return x + x, (lambda g: g + g,)


def test_usual_formulas_stand_beside_the_rule_as_other_forms_of_the_op() -> None:
    declared = op("()->()", also=(by_halves,))(double)
    (form,) = declared.usual_forms
    assert (declared.rule, declared.usual_rules) == (double, (by_halves,))
    assert (form.name, form.rule, form.usual_forms) == ("double", by_halves, ())
    assert (form.signature, form.differentiable, form.domains) == ("()->()", True, declared.domains)
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    form(x).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), [2.0, 2.0])
    assert OPS[declared.address] is declared
    assert op("()->()")(by_halves).usual_forms == ()


def test_usual_formulas_of_ops_with_keywords_and_other_dtypes_are_compared_as_well() -> None:
    def total(*xs: Real, twice: bool = False) -> VJP:
        factor = 1 + twice
        return xs[0] * factor + xs[1], lambda g: (g * factor, g)

    def total_by_steps(*xs: Real, twice: bool = False) -> VJP:
        y = xs[0] + xs[1]
        return y + xs[0] if twice else y, lambda g: (g + g if twice else g, g)

    def forgets(*xs: Real, twice: bool = False) -> VJP:
        return total_by_steps(*xs, twice=twice)[0], lambda g: (g, g)

    cases = lambda choose: Call(((2,), (2,)), {"twice": choose.of([False, True])})
    del OPS[op(cases, also=(total_by_steps,))(total).address]
    message = catch_refusal_message(total, cases, also=(total_by_steps, forgets))
    assert "'forgets' the gradient of xs[0] at (0,)" in message
    assert "'twice': True" in message


def test_usual_formulas_are_compared_with_every_value_of_a_keyword() -> None:
    compared: dict[str, dict[str, set[Any]]] = {}
    for name, declared in OPS.items():
        values = compared.setdefault(name, {})
        for seed in range(CALLS_TO_COMPARE if declared.usual_rules else 0):
            for keyword, value in declared.draw_call(SeededChoices(seed, COMPARED_LENGTHS)).keywords.items():
                values.setdefault(keyword, set()).add(value)
    assert compared["gelu"]["approximate"] == {"none", "tanh"}
    assert compared["cross_entropy"]["reduction"] == {"mean", "sum", "none"}
    assert compared["logsumexp"]["keepdims"] == {False, True}
    assert len(compared["softmax"]["axis"]) >= 4


def catch_refusal_of_usual_formula(usual: Callable[..., Any]) -> str:
    """Return the message with which a formula of the quotient is refused."""

    def quotient(x: Real, y: Positive) -> VJP:
        return x / y, (lambda g: g / y, lambda g: -g * x / y / y)

    return catch_refusal_message(quotient, "(),()->()", also=(usual,))


def divide_by_multiplying(x: Real, y: Positive) -> VJP:
    z = x * (1 / y)
    return z, (lambda g: g / y, lambda g: -g / y * z)


def test_a_usual_formula_with_other_numbers_is_refused() -> None:
    def value_is_off(x: Real, y: Positive) -> VJP:
        value, pulls = divide_by_multiplying(x, y)
        return value * (1 + np.finfo(np.float32).eps), pulls

    def narrow(x: Real, y: Positive) -> VJP:
        value, pulls = divide_by_multiplying(x, y)
        return value.astype(np.float64).astype(x.dtype), pulls

    def gradient_of_y_is_off(x: Real, y: Positive) -> VJP:
        return x / y, (lambda g: g / y, lambda g: -g * x / y)

    def gradient_is_nan(x: Real, y: Positive) -> VJP:
        return x / y, (lambda g: g / y * np.nan, lambda g: -g * x / y / y)

    value = catch_refusal_of_usual_formula(value_is_off)
    assert "op 'quotient': by its usual formula 'value_is_off' the value at (0" in value
    assert "by its rule" in value
    if np.finfo(np.longdouble).eps < np.finfo(np.float64).eps:
        assert "'narrow' the value" in catch_refusal_of_usual_formula(narrow)
    assert "'gradient_of_y_is_off' the gradient of y at" in catch_refusal_of_usual_formula(
        gradient_of_y_is_off
    )
    assert "the gradient of x at (0, 0, 0) is nan" in catch_refusal_of_usual_formula(gradient_is_nan)


def test_a_usual_formula_with_another_dtype_or_shape_is_refused() -> None:
    def single(x: Real, y: Positive) -> VJP:
        return (x / y).astype(np.float32), divide_by_multiplying(x, y)[1]

    def raised(x: Real, y: Positive) -> VJP:
        return (x / y)[None], divide_by_multiplying(x, y)[1]

    assert "dtype float32" in catch_refusal_of_usual_formula(single)
    assert "has shape (1," in catch_refusal_of_usual_formula(raised)


def test_a_usual_formula_with_a_missing_pullback_is_refused() -> None:
    def one_pullback(x: Real, y: Positive) -> VJP:
        return x / y, (lambda g: g / y, None)

    def none_at_all(x: Real, y: Positive) -> VJP:
        return x / y, None

    message = catch_refusal_of_usual_formula(one_pullback)
    assert "usual formula 'one_pullback'" in message
    assert "has ['pullback', 'None']" in message
    assert "'none_at_all' has no pullbacks" in catch_refusal_of_usual_formula(none_at_all)


def test_a_usual_formula_with_other_parameters_is_refused() -> None:
    def other_name(x: Real, z: Positive) -> VJP:
        return divide_by_multiplying(x, z)

    def other_default(x: Real, y: Positive, *, eps: float = 0) -> VJP:
        return divide_by_multiplying(x, y + eps)

    expected = "must take the same parameters as the rule: (x: "
    assert expected in catch_refusal_of_usual_formula(other_name)
    assert "'other_default' takes" in catch_refusal_of_usual_formula(other_default)
