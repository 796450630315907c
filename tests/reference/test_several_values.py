"""Ops of several values: their declaration, what they leave on the tape, and functions that return tuples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gradspec.reference import OPS, VJP, Op, Tensor, no_grad, op, ops, record, vjp
from gradspec.reference.calls import draw_along_axis
from gradspec.reference.domains import Real
from gradspec.reference.rule import Array

pytestmark = pytest.mark.usefixtures("restored_registry")

X, Y, G, H = (np.array(x) for x in ([1.0, 2, 3], [5.0, -1, 2], [1.0, -1, 0.5], [2.0, 3, -1]))


def product_and_sum(x: Real, y: Real) -> VJP:
    return (x * y, x + y), (lambda g, h: g * y + h, lambda g, h: g * x + h)


def product_and_sum_at_once(x: Real, y: Real) -> VJP:
    return (x * y, x + y), (lambda g, h: (g * y + h, g * x + h))


def product_and_sum_by_formula(x: Real, y: Real) -> Any:
    return x * y, x + y


RULES = [product_and_sum, product_and_sum_at_once, product_and_sum_by_formula]


@pytest.fixture(params=RULES, ids=lambda rule: rule.__name__)
def declared(request: pytest.FixtureRequest, restored_registry: None) -> Op:
    return op("(m),(m)->(m),(m)")(request.param)


def make_leaves(*arrays: Array) -> list[Tensor]:
    return [Tensor(x.copy(), requires_grad=True) for x in arrays]


def read_gradients(leaves: list[Tensor]) -> list[Any]:
    return [None if x.grad is None else x.grad.data for x in leaves]


# The tape


def test_the_cotangents_of_all_values_count_together(declared: Op) -> None:
    x, y = make_leaves(X, Y)
    z, s = declared(x, y)
    assert_array_equal(z.data, X * Y)
    (z * G + s * H).sum().backward()
    assert_array_equal(read_gradients([x, y]), [G * Y + H, G * X + H])


@pytest.mark.parametrize(("number", "expected"), [(0, [G * Y, G * X]), (1, [G, G])])
def test_the_cotangent_of_an_unused_value_is_zero(declared: Op, number: int, expected: Any) -> None:
    x, y = make_leaves(X, Y)
    declared(x, y)[number].backward(G)
    assert_array_equal(read_gradients([x, y]), expected)


def test_a_value_may_be_used_twice_and_backward_called_again(declared: Op) -> None:
    x, y = make_leaves(X, Y)
    z, s = declared(x, y)
    total = (z * z + z * s).sum()
    total.backward()
    total.backward()
    assert_array_equal(read_gradients([x, y])[0], 2 * (2 * X * Y * Y + Y * (X + Y) + X * Y))


def test_an_argument_that_requires_no_gradient_gets_none(declared: Op) -> None:
    (x,) = make_leaves(X)
    z, s = declared(x, Tensor(Y))
    (z * G + s * H).sum().backward()
    assert_array_equal(x.grad, G * Y + H)
    assert not any(v.requires_grad for v in declared(Tensor(X), Y))
    with no_grad():
        assert not any(v.requires_grad for v in declared(x, Y))


def test_arrays_give_arrays(declared: Op) -> None:
    values = declared(X, Y)
    assert type(values) is tuple
    assert [type(v) for v in values] == [np.ndarray] * 2


def test_second_derivatives(declared: Op) -> None:
    """Of sum z^2 + z s by x, along G, and again by x."""

    def gradient(x: Any, y: Any) -> Any:
        def f(x: Any) -> Any:
            z, s = declared(x, y)
            return z * z + z * s

        return vjp(f, x)[1](np.ones(3))[0]

    _, pullback = vjp(gradient, X, Y)
    assert_allclose(pullback(G), [G * (2 * Y * Y + 2 * Y), G * (4 * X * Y + 2 * X + 2 * Y)])


def test_gradients_are_recorded_by_create_graph(declared: Op) -> None:
    x, y = make_leaves(X, Y)
    z, s = declared(x, y)
    (z * s).sum().backward(create_graph=True)
    assert x.grad is not None
    first, x.grad = x.grad, None
    first.backward(G)
    assert_allclose(read_gradients([x])[0], 2 * G * Y)


def test_gradients_are_summed_over_broadcast_axes() -> None:
    elementwise = op("(),()->(),()")(product_and_sum)
    assert elementwise.elementwise
    x, y = make_leaves(np.ones((2, 3)), Y)
    z, s = elementwise(x, y)
    (z + 2 * s).sum().backward()
    assert_array_equal(y.grad, 2 * np.full(3, 3.0))


def test_values_of_integers_have_no_gradient() -> None:
    (x,) = make_leaves(Y)
    values, indices = ops.sort(x)
    assert (values.requires_grad, indices.requires_grad) == (True, False)
    assert indices.tolist() == [1, 2, 0]
    values.backward(G)
    assert_array_equal(x.grad, G[[2, 0, 1]])


def test_a_value_may_be_overwritten_but_no_array_that_a_pullback_needs() -> None:
    declared = op("(m),(m)->(m),(m)")(product_and_sum)
    x, y = make_leaves(X, Y)
    z, s = declared(x, y)
    total = (z + s).sum()
    with no_grad():
        z.detach().add_(1)
    total.backward()
    assert_array_equal(x.grad, Y + 1)
    z, s = declared(x, y)
    with no_grad():
        y.add_(1)
    with pytest.raises(RuntimeError, match="product_and_sum needs was overwritten"):
        s.backward(G)


def test_an_error_in_a_pullback_names_the_op() -> None:
    @record
    def failing(x: Array) -> VJP:
        def pull(g: Array, h: Array) -> Array:
            raise ValueError("no")

        return (x, x * 2), (pull,)

    (x,) = make_leaves(X)
    with pytest.raises(ValueError, match="no") as caught:
        failing(x)[1].backward(G)
    assert caught.value.__notes__ == ["in the backward pass of failing"]


def test_many_values_and_long_chains() -> None:
    (x,) = make_leaves(np.arange(3000.0))
    total = Tensor(np.zeros(()))
    for k, element in enumerate(x.unbind()):
        total = total + k * element
    total.backward()
    assert_array_equal(x.grad, np.arange(3000.0))
    x, y = make_leaves(np.array([1e-3]), np.array([0.0]))
    a, b = x, y
    declared = op("(m),(m)->(m),(m)")(product_and_sum)
    for _ in range(3000):
        a, b = declared(a, b)[::-1]
    (a + b).backward()
    assert np.isfinite(read_gradients([x, y])).all()


# Functions that return tuples


def test_vjp_takes_functions_that_return_tuples() -> None:
    value, pullback = vjp(product_and_sum_by_formula, X, Y)
    assert_array_equal(value, (X * Y, X + Y))
    assert_array_equal(pullback(G, H), [G * Y + H, G * X + H])
    assert_array_equal(pullback(G, None), [G * Y, G * X])
    assert_array_equal(pullback(None, H), [H, H])
    assert_array_equal(pullback(None, None), np.zeros((2, 3)))


@pytest.mark.parametrize("cotangents", [(), (G,), (G, H, G)])
def test_a_pullback_refuses_another_number_of_cotangents(cotangents: Any) -> None:
    _, pullback = vjp(product_and_sum_by_formula, X, Y)
    with pytest.raises(TypeError, match=f"one cotangent per value, 2 in all; it got {len(cotangents)}"):
        pullback(*cotangents)


def test_a_cotangent_of_another_shape_is_refused() -> None:
    _, pullback = vjp(product_and_sum_by_formula, X, Y)
    with pytest.raises(ValueError, match="cotangent has shape"):
        pullback(G, H[:1])


@pytest.mark.parametrize("container", [list, lambda vs: dict(enumerate(vs))])
def test_other_containers_are_refused(container: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="an array or a tuple"):
        vjp(lambda x: container([x, x * x]), X)


def test_an_input_and_a_constant_may_be_among_the_values() -> None:
    value, pullback = vjp(lambda x: (x, X * 2, x, x * x), X)
    assert not any(np.shares_memory(v, X) for v in (value[0], value[2]))
    assert_array_equal(pullback(G, H, H, G)[0], G + H + 2 * X * G)


def test_values_and_gradients_have_memory_of_their_own() -> None:
    (a, b), pullback = vjp(lambda x: (x[:2], x[1:]), X)
    g = G[:2].copy()
    (d,) = pullback(g, g)
    a += 1
    assert_array_equal(b, X[1:])
    assert not np.shares_memory(d, g)


def test_pullbacks_of_tuples_are_differentiated() -> None:
    """By the input and by both cotangents."""

    def gradient(x: Any, g: Any, h: Any) -> Any:
        return vjp(lambda x: (x * x, x * x * x), x)[1](g, h)[0]

    _, pullback = vjp(gradient, X, G, H)
    v = np.array([1.0, 2, -1])
    assert_allclose(pullback(v), [v * (2 * G + 6 * X * H), v * 2 * X, v * 3 * X * X])


# Declaration


def refuse(rule: Any, cases: Any = "(m),(m)->(m),(m)", **facts: Any) -> str:
    with pytest.raises(ValueError, match=f"op '{rule.__name__}'") as caught:
        op(cases, **facts)(rule)
    assert rule.__name__ not in {declared.name for declared in OPS.values()}
    return str(caught.value)


def test_what_an_op_of_several_values_is() -> None:
    declared = op("(m),(m)->(m),(m)")(product_and_sum)
    assert (declared.has_several_values, declared.float_values) == (True, (True, True))
    assert [form.picked for form in declared.value_forms] == [0, 1]
    assert not any(form.has_several_values for form in declared.value_forms)
    first = declared.pick(0)
    rule: Any = first.rule
    value, (pull, _) = rule(X, Y)
    assert_array_equal(value, X * Y)
    assert_array_equal(pull(G), G * Y)
    assert first is declared.pick(0)
    assert first.whole is declared
    assert OPS["tanh"].value_forms == (OPS["tanh"],)


@pytest.mark.parametrize(("name", "number"), [("tanh", 0), ("sort", 2), ("sort", -1)])
def test_a_value_that_is_not_there_cannot_be_picked(name: str, number: int) -> None:
    with pytest.raises(ValueError, match=f"'{name}' has no value {number}"):
        OPS[name].pick(number)


def test_the_numbers_of_values_are_compared() -> None:
    assert "has 1 values, its rule or formula 2" in refuse(product_and_sum, "(m),(m)->(m)")
    assert "has 3 values, its rule or formula 2" in refuse(product_and_sum_by_formula, "(m),(m)->(m),(m),(m)")


def test_pullbacks_are_counted() -> None:
    def lacks_one(x: Real, y: Real) -> VJP:
        return (x * y, x + y), (lambda g, h: g * y + h,)

    assert "one pullback for each of its 2 arrays" in refuse(lacks_one)


def test_a_varying_number_of_values_is_of_one_kind() -> None:
    def halves_and_order(x: Real, *, axis: int) -> VJP:
        return (x, np.argsort(x), *(x for _ in range(x.ndim))), (lambda *gs: gs[0],)

    assert "all must be of one kind" in refuse(halves_and_order, draw_along_axis)


@pytest.mark.parametrize("wrong", ["value", "gradient"])
def test_usual_formulas_are_compared_in_every_value(wrong: str) -> None:
    def usual(x: Real, y: Real) -> VJP:
        s = x + y + (wrong == "value")
        return (x * y, s), (lambda g, h: g * y + h * (1 + (wrong == "gradient")), lambda g, h: g * x + h)

    assert "by its usual formula 'usual'" in refuse(product_and_sum, also=[usual])


def test_usual_forms_have_values_too() -> None:
    declared = op("(m),(m)->(m),(m)", also=[product_and_sum_at_once])(product_and_sum)
    (usual,) = declared.pick(1).usual_forms
    assert (usual.picked, usual.rule(X, Y)[0].tolist()) == (1, (X + Y).tolist())


@pytest.mark.parametrize(
    "formula",
    [
        lambda x: (x, np.abs(x)),
        lambda x: (x, np.sort(x)),
        lambda x: (x, x * np.argsort(x).astype(x.dtype)),
        lambda x: (x, np.sign(x)),
    ],
)
def test_kinks_in_any_value_are_seen(formula: Any) -> None:
    def second_has_kinks(x: Real) -> Any:
        return formula(x)

    assert "its formula has kinks" in refuse(second_has_kinks, "(m)->(m),(m)")


def test_a_formula_may_return_integers_beside_floats() -> None:
    @op("(m)->(m),(m)", kinks=OPS["sort"].kinks)
    def by_sort(x: Real) -> Any:
        return np.sort(x) * 2, np.argsort(x)

    assert [form.differentiable for form in by_sort.value_forms] == [True, False]
    rule: Any = by_sort.rule
    (values, indices), pull = rule(Y)
    assert (values.tolist(), indices.tolist()) == ([-2, 4, 10], [1, 2, 0])
    assert_array_equal(pull(G, np.zeros(3, np.int64))[0], 2 * G[[2, 0, 1]])


# The ops


@pytest.mark.parametrize("descending", [False, True])
def test_sort_is_stable_and_takes_nan_for_the_largest(descending: bool) -> None:
    x = np.array([2.0, np.nan, 1, 2, -0.0, 0.0, np.nan])
    values, indices = ops.sort(x, descending=descending)
    expected = [1, 6, 0, 3, 2, 4, 5] if descending else [4, 5, 2, 0, 3, 1, 6]
    assert indices.tolist() == expected
    assert_array_equal(values, x[expected])


def test_unstack_gives_slices_along_an_axis() -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert [v.tolist() for v in ops.unstack(x)] == [[0, 1, 2], [3, 4, 5]]
    assert [v.tolist() for v in ops.unstack(x, axis=-1)] == [[0, 3], [1, 4], [2, 5]]
    assert ops.unstack(np.zeros((0, 2))) == ()


def test_tensors_are_sorted_and_unbound_as_in_torch() -> None:
    x = Tensor(np.array([[3.0, 1, 2], [0, 5, 4]]))
    result = x.sort(1, descending=True)
    assert (result.values.tolist(), result.indices.tolist()) == (
        [[3, 2, 1], [5, 4, 0]],
        [[0, 2, 1], [1, 2, 0]],
    )
    assert x.argsort(0).tolist() == [[1, 0, 0], [0, 1, 1]]
    assert [v.tolist() for v in x.unbind(1)] == [[3, 0], [1, 5], [2, 4]]
