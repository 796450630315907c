"""Derived ops have usual formulas by those of the ops they are made of."""

from typing import Any

import numpy as np
import pytest

from gradspec.properties.judging.spec_backend import list_usual_spec_backends
from gradspec.reference import OPS, Tensor, op, ops
from gradspec.reference.calls import draw_along_axis
from gradspec.reference.domains import Real
from gradspec.reference.forms import use_forms
from gradspec.reference.rule import VJP

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
        np.tanh(Tensor([1.0]), 2)
    assert OPS["tanh"].apply is before
    op("()->()")(twice_tanh)
    assert OPS["tanh"].apply is before
