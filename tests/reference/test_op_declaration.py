"""Declarations of ops: a missing or contradictory fact is an error at import that says what is wrong."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradspec.reference import OPS, Tensor, op, ops
from gradspec.reference.calls import Call, Choices, IntegerArrayBelow, SmallestChoices
from gradspec.reference.domains import Booleans, Index, Integers, Interval, Positive, Real, below
from gradspec.reference.kink_distances import points
from gradspec.reference.op import fill_from_domain
from gradspec.reference.rule import VJP, Array

pytestmark = pytest.mark.usefixtures("restored_registry")


def double(x: Real) -> VJP:
    return 2 * x, (lambda g: 2 * g,)


def test_a_declared_op_is_found_by_its_address() -> None:
    declared = op("()->()")(double)
    assert OPS[f"{__name__}:double"] is declared
    assert ops.__getattr__("log") is OPS["log"]
    assert (declared.arguments, declared.keywords, declared.variadic) == (("x",), (), False)
    assert declared.differentiable
    assert declared.domain(0) == Interval()
    assert repr(declared) == f"<op {__name__}:double>"
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
    before = dict(OPS)
    with pytest.raises((TypeError, ValueError)) as caught:
        op(cases, **facts)(rule)
    assert before == OPS
    return str(caught.value)


def test_another_op_at_the_same_address_is_refused() -> None:
    def log(x: Real) -> VJP:
        return double(x)

    def declare_another() -> Callable[..., Any]:
        def log(x: Real) -> VJP:
            return 3 * x, (lambda g: 3 * g,)

        return log

    declared = op("()->()")(log)
    assert declared.address == f"{__name__}:log"
    message = f"op '{__name__}:log' is declared twice, and not alike; give one of them another name"
    assert catch_refusal_message(declare_another()) == message
    assert catch_refusal_message(log, "(n)->(n)") == message
    assert catch_refusal_message(log, kinks=points(0)) == message
    assert OPS["log"] is not OPS[declared.address] is declared
    log.__module__ = OPS["log"].rule.__module__
    assert "op 'log' is declared twice" in catch_refusal_message(log)


def test_the_same_declaration_may_run_again() -> None:
    def declare(factor: int) -> Any:
        def scale(x: Array) -> Array:
            return x * factor

        def scaled(x: Real, *, shift: float = 0.0) -> Array:
            return scale(x) + shift

        def shifted(x: Real, *, shift: float = 0.0) -> Array:
            return shift + scale(x)

        return op("()->()", shift=[0.0, 1.0], also=(shifted,))(scaled)

    first, second = declare(2), declare(2)
    assert OPS[first.address] is second is not first
    with pytest.raises(ValueError, match="declared twice"):
        declare(3)


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
    cases: Any = lambda _: Call(((), ()))
    assert "op 'double': 1 arguments, but cases of 2" in catch_refusal_message(double, cases)


def test_a_signature_of_another_number_of_arrays_is_refused() -> None:
    def add(x: Real, y: Real, z: Real) -> Any:
        return x + y + z

    for signature, count in (("(n)->(n)", "1 array;"), ("(n),(n),(),()->(n)", "4 arrays;")):
        message = catch_refusal_message(add, signature)
        assert f"op 'add': it has the arguments x, y, z, but signature {signature!r} is of {count}" in message


def test_a_call_that_the_formula_cannot_take_is_told() -> None:
    def pick(x: Real, index: below("c"), *, scale: float = 1.0) -> Any:  # type: ignore[valid-type]
        return np.sum(np.take_along_axis(x, index[:, None], axis=-1)) * scale

    message = catch_refusal_message(pick, "(n,c),(n)->()", scale=[1.0])
    assert re.match(r"op 'pick': it raises ValueError in a call with shapes \[\(.*\), \(.*\)\] and", message)
    assert "and keywords {'scale': 1.0}: `indices` and `arr`" in message
    assert "axes before the named ones are broadcast: if it has none, write shapes='(n,c),(n)->()'" in message
    message = catch_refusal_message(pick, lambda _: Call(((2, 2), IntegerArrayBelow((2, 1), 2))))
    assert "it raises ValueError" in message
    assert "star" not in message
    assert op(shapes="(n,c),(n)->()", scale=[1.0])(pick).formula


def test_cases_with_a_keyword_that_the_rule_does_not_take_are_refused() -> None:
    assert "keywords ['axis']" in catch_refusal_message(double, lambda _: Call(((),), {"axis": 0}))


def test_kinks_of_another_shape_are_refused() -> None:
    assert "kinks" in catch_refusal_message(double, kinks=lambda x: (np.zeros(7),))


def test_an_unknown_fact_is_refused() -> None:
    assert "tolerance" in catch_refusal_message(double, tolerance=1e-3)


@pytest.mark.parametrize("signature", ["", "()", "n->n", "(n)->", "(n)->(n),", "(n,)->(n)", "(n) (n)->(n)"])
def test_a_string_that_is_no_gufunc_signature_is_refused(signature: str) -> None:
    message = catch_refusal_message(double, signature)
    assert message.startswith(f"op 'double': {signature!r} is not a gufunc signature")


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
