"""Declarations of ops: a missing or contradictory fact is an error at import that says what is wrong."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from gradspec.reference import OPS, Tensor, op, ops
from gradspec.reference.calls import Call, Choices, IntegerArrayBelow, SeededChoices, SmallestChoices
from gradspec.reference.domains import Booleans, Index, Integers, Interval, Positive, Real
from gradspec.reference.op import CALLS_TO_COMPARE, COMPARED_LENGTHS, fill_from_domain
from gradspec.reference.rule import VJP


@pytest.fixture(autouse=True)
def restored_registry() -> Iterator[None]:
    """Restore OPS after a test, so that no op it declares remains."""
    before = dict(OPS)
    yield
    OPS.clear()
    OPS.update(before)


def double(x: Real) -> VJP:
    return 2 * x, (lambda g: 2 * g,)


def test_a_declared_op_is_found_by_its_name() -> None:
    declared = op("()->()")(double)
    assert OPS["double"] is declared is ops.__getattr__("double")
    assert (declared.arguments, declared.keywords, declared.variadic) == (("x",), (), False)
    assert declared.differentiable
    assert declared.domain(0) == Interval()
    assert repr(declared) == "<op double>"
    assert declared(3.0) == 6


def test_an_op_that_is_not_declared_is_named_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match=r"'treble'.*log"):
        ops.__getattr__("treble")


def test_a_rule_without_pullbacks_is_not_differentiable() -> None:
    def floor(x: Real) -> VJP:
        return np.floor(x), None

    declared = op("()->()")(floor)
    assert not declared.differentiable
    assert declared.differentiable_arguments(1) == ()


def test_one_function_may_return_every_gradient() -> None:
    def twice(x: Real, i: Index, y: Real) -> VJP:
        return x + y, lambda g: (g, None, g)

    declared = op(lambda _: Call(((), IntegerArrayBelow((), 1), ())))(twice)
    assert declared.differentiable_arguments(3) == (0, 2)


def catch_refusal_message(rule: Callable[..., Any], cases: Any = "()->()", **facts: Any) -> str:
    """Return the message with which the declaration is refused."""
    with pytest.raises((TypeError, ValueError)) as caught:
        op(cases, **facts)(rule)
    assert OPS.get(rule.__name__) is None or rule.__name__ == "log"
    return str(caught.value)


def test_a_name_declared_twice_is_refused() -> None:
    def log(x: Real) -> VJP:
        return double(x)

    assert "'log' is declared twice" in catch_refusal_message(log)


def test_an_argument_without_a_domain_is_refused() -> None:
    def untyped(x: Real, y) -> VJP:  # type: ignore[no-untyped-def]
        return x + y, (lambda g: g, lambda g: g)

    def mistyped(x: float) -> VJP:
        return double(x)

    assert "'y' needs a domain" in catch_refusal_message(untyped, "(),()->()")
    assert "'x' needs a domain" in catch_refusal_message(mistyped)


def test_metadata_that_is_not_keyword_only_is_refused() -> None:
    def scaled(x: Real, factor: float = 2) -> VJP:
        return factor * x, (lambda g: factor * g,)

    assert "'factor' needs a domain" in catch_refusal_message(scaled)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_pullbacks_is_refused(count: int) -> None:
    def add_up(x: Real, y: Real) -> VJP:
        return x + y, (lambda g: g,) * count

    assert "one pullback for each of its 2 arrays" in catch_refusal_message(add_up, "(),()->()")


def test_a_pullback_for_an_integer_argument_is_refused() -> None:
    def take(x: Real, i: Index) -> VJP:
        return x, (lambda g: g, lambda g: g)

    assert "None" in catch_refusal_message(take, lambda _: Call(((), IntegerArrayBelow((), 1))))


def test_an_argument_without_a_pullback_is_refused() -> None:
    def left(x: Real, y: Real) -> VJP:
        return x + y, (lambda g: g, None)

    assert "has ['pullback', 'None']" in catch_refusal_message(left, "(),()->()")


def test_cases_of_another_number_of_arrays_are_refused() -> None:
    assert "1 arguments, but cases of 2" in catch_refusal_message(double, "(),()->()")


def test_cases_with_a_keyword_that_the_rule_does_not_take_are_refused() -> None:
    assert "keywords ['axis']" in catch_refusal_message(double, lambda _: Call(((),), {"axis": 0}))


def test_kinks_of_another_shape_are_refused() -> None:
    assert "kinks" in catch_refusal_message(double, kinks=lambda x: (np.zeros(7),))


def test_an_unknown_fact_is_refused() -> None:
    assert "tolerance" in catch_refusal_message(double, tolerance=1e-3)


@pytest.mark.parametrize(
    "signature", ["", "()", "n->n", "(n)->", "(n)->(n),(n)", "(n,)->(n)", "(n) (n)->(n)"]
)
def test_a_string_that_is_no_gufunc_signature_is_refused(signature: str) -> None:
    assert "gufunc signature" in catch_refusal_message(double, signature)


def test_arrays_may_be_given_by_name() -> None:
    x, low, high = np.array([-3.0, 0, 3]), np.array(-1.0), Tensor(np.array(2.0), requires_grad=True)
    assert ops.clip(x, max=high, min=low).tolist() == [-1, 0, 2]
    ops.clip(x, max=high).sum().backward()
    assert high.grad is not None
    assert high.grad.item() == 1
    assert ops.divide(y=2.0, x=3.0) == 1.5
    with pytest.raises(TypeError, match="missing"):
        ops.divide(y=2.0)


@pytest.mark.parametrize(
    "domain", [Interval(), Interval(0.0), Interval(-1.0, 0.0), Interval(2.0, 2.25), Interval(high=-7.0)]
)
def test_a_sample_is_inside_its_domain(domain: Interval) -> None:
    x = fill_from_domain(domain, (2, 0, 1))
    assert (x.shape, x.dtype) == ((2, 0, 1), np.float64)
    assert float(fill_from_domain(domain, ())) in domain
    assert float(fill_from_domain(Interval(hole=(1.0, 0.5)), ())) not in (1.0, 0.5)


def test_samples_of_integers_and_truth_values() -> None:
    assert fill_from_domain(Integers(), IntegerArrayBelow((2,), 5)).tolist() == [0, 0]
    assert fill_from_domain(Booleans(), (2,)).tolist() == [True, True]


def test_an_interval_leaves_out_its_ends_and_holes() -> None:
    assert [x in Interval(0.0, 3.0, hole=(1.0,)) for x in (0, 0.5, 1, 2, 3, np.nan)] == [0, 1, 0, 1, 0, 0]


def test_a_variadic_op_takes_any_number_of_arrays() -> None:
    def total(*xs: Positive) -> VJP:
        return sum(xs), (lambda g: g,) * len(xs)

    def cases(choose: Choices) -> Call:
        return Call(((),) * choose.integer(1, 3))

    declared = op(cases)(total)
    assert declared.variadic
    assert declared.draw_call(SmallestChoices()) == Call(((),))
    assert declared.differentiable_arguments(3) == (0, 1, 2)
    assert [declared.argument_name(1), declared.domain(2)] == ["xs[1]", Interval(0.0)]
    assert declared([1.0, 2.0]) == 3


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
    assert OPS["double"] is declared
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
    op(cases, also=(total_by_steps,))(total)
    del OPS["total"]
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
