"""Derived ops have usual formulas by those of the ops they are made of."""

from typing import Any

import numpy as np
import pytest

from gradspec.properties.judging.spec_backend import list_usual_spec_backends
from gradspec.reference import OPS, Tensor, op, ops, vjp
from gradspec.reference.calls import draw_along_axis
from gradspec.reference.domains import Real
from gradspec.reference.forms import use_forms
from gradspec.reference.rule import VJP
from gradspec.reference.written_out import make_usual_forms

pytestmark = pytest.mark.usefixtures("restored_registry")

Array = Any

X = np.array([-3.0, 0.5, 20])


def twice_tanh(x: Real) -> Array:
    return 2 * np.tanh(x)


def by_its_own(x: Real) -> VJP:
    return 2 * np.tanh(x), (lambda g: g * 2 * (1 - np.tanh(x)) * (1 + np.tanh(x)),)


def differentiate(rule: Any, *inputs: Array) -> list[Array]:
    value, pull = rule(*inputs)
    gradients = pull(np.ones_like(value)) if callable(pull) else [p(np.ones_like(value)) for p in pull]
    return [value, *gradients]


def test_a_formula_is_run_on_the_usual_formulas_of_its_ops() -> None:
    declared = op("()->()")(twice_tanh)
    assert declared.parts == ("tanh",)
    (form,) = declared.usual_forms
    y = np.tanh(X)
    value, gradient = differentiate(form.rule, X)
    np.testing.assert_array_equal(value, 2 * y)
    np.testing.assert_array_equal(gradient, 2 * (1 - y * y))
    assert gradient[2] == 0
    assert 0 < differentiate(declared.rule, X)[1][2] < 1e-16


def test_what_is_made_of_other_ops_inherits_nothing() -> None:
    def mean_square(x: Real) -> Array:
        return np.mean(x * x, axis=-1)

    declared = op("(n)->()")(mean_square)
    assert (declared.parts, declared.usual_rules) == ((), ())


def test_a_formula_has_as_many_as_the_op_with_the_most_and_its_own_before_them() -> None:
    def mixture(x: Real, *, axis: int = -1) -> Array:
        return np.tanh(x) * ops.log_softmax(x, axis=axis)

    def usual(x: Real, *, axis: int = -1) -> Array:
        return ops.log_softmax(x, axis=axis) * np.tanh(x)

    declared = op(draw_along_axis, also=(usual,))(mixture)
    assert declared.parts == ("log_softmax", "tanh")
    assert len(declared.usual_forms) == 1 + len(OPS["log_softmax"].usual_rules)
    assert declared.usual_rules[0].formula is usual  # type: ignore[attr-defined]


def test_formulas_of_formulas_inherit_too() -> None:
    inner: Any = op("()->()", also=(by_its_own,))(twice_tanh)

    def outer(x: Real) -> Array:
        return inner(x) * 4

    declared = op("()->()")(outer)
    assert declared.parts == ("tanh", inner.address)
    first, second = declared.usual_forms
    np.testing.assert_array_equal(differentiate(first.rule, X)[1], 4 * differentiate(by_its_own, X)[1])
    np.testing.assert_array_equal(differentiate(second.rule, X)[1], 4 * (2 * (1 - np.tanh(X) ** 2)))


def test_each_of_several_values_inherits() -> None:
    def both(x: Real) -> Array:
        return np.tanh(x), np.exp(x)

    (form,) = op("()->(),()")(both).pick(0).usual_forms
    np.testing.assert_array_equal(differentiate(form.rule, X)[1], 1 - np.tanh(X) ** 2)


def test_higher_derivatives_are_by_the_usual_formulas_of_the_parts() -> None:
    declared: Any = op("()->()")(twice_tanh)

    def derive_twice(backend: Any) -> Any:
        fn, one = backend.ops[declared.address], np.ones(1)
        return backend.vjp(lambda x: backend.vjp(fn, x)[1](one)[0], np.array([20.0]))[1](one)[0]

    (usual,) = list_usual_spec_backends([declared.address])
    assert derive_twice(usual) == 0
    assert -1e-15 < derive_twice(list_usual_spec_backends(["silu"])[0]) < 0


def test_ops_are_themselves_again_after_their_forms_were_in_use() -> None:
    before = OPS["tanh"].apply
    with pytest.raises(TypeError), use_forms({"tanh": OPS["tanh"].usual_forms[0]}):
        np.tanh(Tensor([1.0]), "no array")  # type: ignore[call-overload]
    assert OPS["tanh"].apply is before
    op("()->()")(twice_tanh)
    assert OPS["tanh"].apply is before


# What formulas write out


def gate(x: Real, z: Real) -> Array:
    return x / (1 + np.exp(-z))


def gate_by_one_added_from_the_right(x: Real, z: Real) -> Array:
    return x * (1 / (np.exp(-z) + np.ones((), x.dtype)))


def softmax(x: Real) -> Array:
    e = np.exp(x - ops.stop_gradient(np.max(x, axis=-1, keepdims=True)))
    return e / np.sum(e, axis=-1, keepdims=True)


def softmax_of_two_exp(x: Real) -> Array:
    return np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)


def softmax_of_one_exp(x: Real) -> Array:
    e = np.exp(x)
    return e / np.sum(e, axis=-1, keepdims=True)


@pytest.mark.parametrize("formula", [gate, gate_by_one_added_from_the_right])
def test_a_sigmoid_that_is_written_out_has_its_usual_formula(formula: Any) -> None:
    """Kernels differentiate it by s (1 - s), which is 0 where s is 1 to the last digit."""
    (form,) = op("(),()->()")(formula).usual_forms
    x, z = np.array([2.0, 3]), np.array([40.0, -1])
    value, by_x, by_z = differentiate(form.rule, x, z)
    s = 1 / (1 + np.exp(-z))
    np.testing.assert_array_equal(value, x * s)
    np.testing.assert_array_equal(by_x, s)
    np.testing.assert_allclose(by_z, x * (s * (1 - s)), rtol=1e-15)
    assert by_z[0] == 0


@pytest.mark.parametrize("in_use", [False, True])
def test_the_usual_formula_of_what_is_written_out_is_differentiated_twice(in_use: bool) -> None:
    (form,) = op("(),()->()")(gate).usual_forms
    one, z = np.ones(1), np.array([0.5])
    with use_forms(make_usual_forms() if in_use else {}):
        second = vjp(lambda z: vjp(lambda z: form(one, z), z)[1](one)[0], z)[1](one)[0]
    s = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(second, s * (1 - s) * (1 - 2 * s), rtol=1e-14)


@pytest.mark.parametrize("formula", [softmax, softmax_of_one_exp, softmax_of_two_exp])
def test_a_softmax_that_is_written_out_is_computed_from_its_logsumexp(formula: Any) -> None:
    """So FlashAttention does in its backward pass: at 2^60 it loses log 2, and of two halves each is 1."""
    (form,) = op("(n)->(n)")(formula).usual_forms
    large = 2.0**60
    with np.errstate(over="ignore"):
        value, _ = differentiate(form.rule, np.full(2, large))
    np.testing.assert_array_equal(value, [1, 1])
    g = np.array([1.0, 0])
    y, pull = form.rule(np.array([0.5, 2.0]))
    np.testing.assert_allclose(y, np.exp([0.5, 2]) / np.sum(np.exp([0.5, 2])), rtol=1e-15)
    gradients: Any = pull
    np.testing.assert_allclose(gradients(g)[0], y * (g - y[0]), rtol=1e-14)


def attention(q: Real, k: Real, v: Real) -> Array:
    return np.matmul(softmax(np.matmul(q, np.matrix_transpose(k))), v)


def attention_by_the_op(q: Real, k: Real, v: Real) -> Array:
    return ops.softmax(q @ np.matrix_transpose(k)) @ v


@pytest.mark.parametrize("formula", [attention, attention_by_the_op])
def test_attention_that_is_written_out_subtracts_the_sum_of_its_value(formula: Any) -> None:
    """As FlashAttention does: of one key, g v^T - sum(g * value) is 0, and here what is left of that."""
    declared = op("(*b,m,d),(*b,n,d),(*b,n,e)->(*b,m,e)")(formula)
    form = declared.usual_forms[-1]
    rng = np.random.default_rng(0)
    q, k, v, g = (rng.normal(size=(2, n, 9)) for n in (3, 4, 4, 3))
    for other in declared.usual_forms:
        (value, pull), (expected, expected_pull) = other.rule(q, k, v), declared.rule(q, k, v)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        for d, wanted in zip(pull(g), expected_pull(g), strict=True):  # type: ignore[operator, misc]
            np.testing.assert_allclose(d, wanted, atol=1e-13)
    dq, *_ = form.rule(q, k[:, :1], v[:, :1])[1](g)  # type: ignore[operator, misc]
    delta = np.matmul(g, np.matrix_transpose(v[:, :1])) - np.sum(g * v[:, :1], axis=-1, keepdims=True)
    assert np.any(delta != 0)
    np.testing.assert_array_equal(dq, delta * k[:, :1])


def test_what_is_subtracted_from_an_exponent_has_its_gradient() -> None:
    def softmax_of_a_difference(x: Real, y: Real) -> Array:
        e = np.exp(x - y)
        return e / np.sum(e, axis=-1, keepdims=True)

    (form,) = op("(n),(n)->(n)")(softmax_of_a_difference).usual_forms
    x, y, g = np.array([0.5, 2]), np.array([1.0, -1]), np.array([1.0, 0])
    by_x, by_y = form.rule(x, y)[1](g)  # type: ignore[operator, misc]
    np.testing.assert_allclose(by_y, -by_x)
    assert by_x[0] > 0


def test_other_quotients_are_what_they_are() -> None:
    def quotient(x: Real, y: Real) -> Array:
        e = np.exp(x)
        two, of_both, other = 2 + np.exp(y), 1 + y * y, np.sum(np.exp(y), axis=-1, keepdims=True)
        return x / two + x / of_both + e / other + e / np.exp(np.sum(y, axis=-1, keepdims=True))

    assert op("(n),(n)->(n)")(quotient).usual_rules == ()


def test_operators_are_themselves_again_after_their_forms_were_in_use() -> None:
    before = Tensor.__truediv__, Tensor.__rtruediv__
    (form,) = op("(),()->()")(gate).usual_forms
    differentiate(form.rule, X, X)
    assert (Tensor.__truediv__, Tensor.__rtruediv__) == before
    with use_forms({"divide": OPS["multiply"]}):
        assert (Tensor([6.0]) / 2.0).tolist() == (3.0 / Tensor([4.0])).tolist() == [12.0]
    assert (Tensor([6.0]) / 2.0).tolist() == (12.0 / Tensor([4.0])).tolist() == [3.0]
