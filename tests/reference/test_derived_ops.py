"""Derived ops: a formula is recorded op by op, its rule is the vjp of it, and what it hides is refused."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gradspec.reference import OPS, Tensor, Variable, op, ops, record, vjp
from gradspec.reference.calls import Call, Choices, IntegerArrayBelow, draw_shape
from gradspec.reference.derived import is_vjp
from gradspec.reference.domains import Fixed, Index, Positive, Real
from gradspec.reference.kink_distances import points, smooth
from gradspec.reference.rule import VJP

pytestmark = pytest.mark.usefixtures("restored_registry")

Array = Any


def rms_norm(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rms_norm_by_hand(x: Real, weight: Real, *, eps: float = 1e-6) -> VJP:
    rrms = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    xhat = x * rrms

    def pull_x(g: Array) -> Array:
        gx = g * weight
        return rrms * (gx - xhat * np.mean(gx * xhat, axis=-1, keepdims=True))

    return xhat * weight, (pull_x, lambda g: g * xhat)


def make_rms_norm_inputs(dtype: Any = np.float64) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 3, 4)).astype(dtype), rng.normal(size=4).astype(dtype)


def test_which_ops_of_the_spec_are_by_hand() -> None:
    """All: by hand each is stable and fast. One that becomes a formula is named here, with its reason."""
    assert {name for name, declared in OPS.items() if declared.formula is not None} == set()


def test_no_rule_of_the_spec_is_taken_for_a_formula_and_no_array_for_a_rule() -> None:
    x = np.ones(2)
    assert is_vjp((x, None))
    assert is_vjp((x, (None, np.sin)))
    assert is_vjp((x, np.sin))
    assert not any(map(is_vjp, (x, x[0], [x, None], (x, x), (x, (x,)), (x, x, x), (x, None, None), 1.0)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_the_rule_of_a_formula_gives_what_the_rule_by_hand_gives(dtype: Any) -> None:
    inputs = make_rms_norm_inputs(dtype)
    declared: Any = op("(n),(n)->(n)", eps=[1e-6, 1e-2])(rms_norm)
    assert declared.formula is rms_norm
    assert declared.differentiable
    value, pull = declared.rule(*inputs, eps=1e-2)
    expected, (pull_x, pull_weight) = rms_norm_by_hand(*inputs, eps=1e-2)  # type: ignore[misc]
    g = np.cos(np.arange(value.size, dtype=dtype)).reshape(value.shape)
    gradients: Any = pull(g)
    expected_gradients = (pull_x(g), pull_weight(g).sum((0, 1)))  # type: ignore[misc]
    tolerance = 64 * float(np.finfo(dtype).eps)
    for got, want in zip((value, *gradients), (expected, *expected_gradients), strict=True):
        assert got.dtype == dtype
        assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_on_tensors_a_formula_is_recorded_op_by_op() -> None:
    declared: Any = op("(n),(n)->(n)")(rms_norm)
    x, weight = (Tensor(x, requires_grad=True) for x in make_rms_norm_inputs())
    y = declared(x, weight)
    assert y._rule_call is ops.multiply.rule
    y.backward(np.ones(y.shape))
    assert_allclose(weight.grad.numpy(), rms_norm_by_hand(x.data, weight.data)[1][1](1).sum((0, 1)))  # type: ignore[index, misc, union-attr]
    assert isinstance(declared(*make_rms_norm_inputs()), np.ndarray)


def test_the_value_alone_builds_no_pullbacks() -> None:
    declared: Any = op("(n),(n)->(n)")(rms_norm)
    with mock.patch("gradspec.reference.derived.vjp", side_effect=AssertionError):
        assert declared.compute_value(*make_rms_norm_inputs()).shape == (2, 3, 4)
        with pytest.raises(AssertionError):
            declared.rule(*make_rms_norm_inputs())


@pytest.mark.parametrize("recorded", [False, True])
def test_second_derivatives_of_a_formula_need_nothing_more(recorded: bool) -> None:
    """Op by op, or as one op whose rule runs again on variables."""
    declared: Any = op("(n),(n)->(n)")(rms_norm)
    x, weight = make_rms_norm_inputs(np.longdouble)
    function: Any = record(declared.rule) if recorded else declared
    u, t = np.sin(x * 7), np.cos(x * 5)

    def along(x: Any, function: Any = function) -> Any:
        return (vjp(lambda x: function(x, weight), x)[1](np.cos(u))[0] * u).sum()

    _, pullback = vjp(along, x)
    h = np.longdouble(1e-5)
    result = (pullback(np.ones((), x.dtype))[0] * t).sum()
    rule: Any = rms_norm_by_hand

    def by_hand(x: Any) -> Any:
        return (rule(x, weight)[1][0](np.cos(u)) * u).sum()

    expected = (
        8 * (by_hand(x + h * t) - by_hand(x - h * t)) - by_hand(x + 2 * h * t) + by_hand(x - 2 * h * t)
    ) / (12 * h)
    assert_allclose(result, expected, rtol=1e-9)


def test_arguments_may_be_left_out_given_by_name_or_be_numbers() -> None:
    def affine(x: Real, weight: Real, bias: Real = None) -> Array:
        return x * weight if bias is None else x * weight + bias

    declared: Any = op("(),(),()->()")(affine)
    _, pull = declared.rule(np.ones(3), np.ones(3))
    assert [d.tolist() for d in pull(np.ones(3))] == [[1] * 3] * 2
    assert declared(weight=2.0, x=3.0) == 6
    x = Tensor(np.ones(2), requires_grad=True)
    declared(x, 2.0, bias=x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3, 3]


def test_what_has_no_gradient_gets_none() -> None:
    def rotate(x: Real, cos: Fixed, sign: Index) -> Array:
        return x * cos * (1 - 2 * sign).astype(x.dtype)

    def cases(choose: Choices) -> Any:
        shape = draw_shape(choose)
        return Call((shape, shape, IntegerArrayBelow(shape, 2)))

    declared: Any = op(cases)(rotate)
    assert declared.differentiable_arguments(3) == (0,)
    _, pull = declared.rule(np.ones(2), np.full(2, 3.0), np.array([0, 1]))
    assert [d if d is None else d.tolist() for d in pull(np.ones(2))] == [[3, -3], None, None]
    cos = Tensor(np.ones(2), requires_grad=True)
    assert not declared(np.ones(2), cos, np.array([0, 1])).requires_grad


@pytest.mark.parametrize("by_tape", [False, True])
def test_a_table_may_be_overwritten_before_the_pullback(by_tape: bool) -> None:
    def rotate(x: Real, cos: Fixed) -> Array:
        return x * cos

    declared: Any = op("(n),(n)->(n)")(rotate)
    table = np.full(2, 3.0)
    if by_tape:
        _, pull = vjp(lambda x: declared(x, table), Tensor(np.ones(2)))
    else:
        _, pull = declared.rule(np.ones(2), table)
    table[...] = 0
    assert np.asarray(pull(np.ones(2))[0]).tolist() == [3, 3]


def test_a_formula_of_any_number_of_arrays() -> None:
    def total_square(*xs: Positive) -> Array:
        return sum(x * x for x in xs)

    declared: Any = op(lambda choose: Call(((2,),) * choose.integer(1, 3)))(total_square)
    assert (declared.variadic, declared.differentiable) == (True, True)
    _, pull = declared.rule(np.ones(2), np.full(2, 3.0))
    assert [d.tolist() for d in pull(np.ones(2))] == [[2, 2], [6, 6]]
    assert declared([Tensor(np.ones(2), requires_grad=True), np.ones(2)]).requires_grad
    assert declared.compute_value(np.ones(2), np.ones(2)).tolist() == [2, 2]


def test_formulas_whose_values_have_no_gradient() -> None:
    def is_positive(x: Real) -> Array:
        return x > 0

    def two(x: Real) -> Array:
        return np.full(np.shape(x), 2, getattr(x, "dtype", float))

    declared, constant = op("()->()", kinks=points(0))(is_positive), op("()->()")(two)
    assert (declared.differentiable, declared.has_zero_gradient) == (False, False)
    assert (constant.differentiable, constant.has_zero_gradient) == (False, True)
    assert declared.rule(np.ones(2))[1] is None
    assert isinstance(constant(Tensor(np.ones(2))), Variable)


def test_usual_formulas_of_a_formula_may_be_either() -> None:
    def by_variance(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
        return x * (1 / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) / x.shape[-1] + eps)) * weight

    declared: Any = op("(n),(n)->(n)", also=(by_variance, rms_norm_by_hand))(rms_norm)
    formula, by_hand = declared.usual_forms
    assert (formula.formula, by_hand.formula) == (by_variance, None)
    x, weight = make_rms_norm_inputs()
    assert_allclose(formula(x, weight), by_hand(x, weight))
    OPS.pop(declared.address)

    def another(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
        return rms_norm(x, weight) * 1.01

    with pytest.raises(ValueError, match=r"'another'.* is "):
        op("(n),(n)->(n)", also=(another,))(rms_norm)


# What a formula hides


def hide_in_abs(x: Real) -> Array:
    return np.abs(x) * 2


def hide_in_where(x: Real) -> Array:
    return np.where(x > 0, x, 0)


def hide_in_less_or_equal(x: Real) -> Array:
    return (x <= 1) * x


def hide_in_a_comparison_from_the_left(x: Real) -> Array:
    return np.where(np.zeros(x.shape) >= x, 0, x)


def hide_in_sign(x: Real) -> Array:
    return x * np.sign(x)


def hide_in_a_method(x: Real) -> Array:
    return abs(x) + x.clip(0, 1) if isinstance(x, np.ndarray) else x.abs() + x.clamp(0, 1)


def hide_in_an_op(x: Real) -> Array:
    return ops.relu(x) + 1


def hide_in_a_maximum(x: Real) -> Array:
    return np.exp(x - np.max(x, axis=-1, keepdims=True))


def hide_in_an_index(x: Real) -> Array:
    return x * np.argmax(x, axis=-1, keepdims=True).astype(x.dtype)


def hide_in_a_comparison_of_what_moved(x: Real) -> Array:
    return np.where(np.reshape(x * 2, x.shape) != 0, x, 0)


HIDING: dict[Callable[..., Any], str] = {
    hide_in_abs: "abs",
    hide_in_where: "greater",
    hide_in_less_or_equal: "less_equal",
    hide_in_a_comparison_from_the_left: "greater_equal",
    hide_in_sign: "sign",
    hide_in_a_method: "abs, clip",
    hide_in_an_op: "relu",
    hide_in_a_maximum: "max",
    hide_in_an_index: "argmax",
    hide_in_a_comparison_of_what_moved: "not_equal",
}


@pytest.mark.parametrize("formula", HIDING)
def test_kinks_that_the_declaration_does_not_tell_are_refused(formula: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=rf"{formula.__name__}.*uses {HIDING[formula]}, .*kinks=points\(0\)"):
        op("(n)->(n)")(formula)
    assert formula.__name__ not in {declared.name for declared in OPS.values()}
    assert op("(n)->(n)", kinks=points(0))(formula).kinks is not None


def test_a_kink_of_one_keyword_alone_is_seen() -> None:
    def act(x: Real, *, kind: str = "tanh") -> Array:
        return np.tanh(x) if kind == "tanh" else np.maximum(x, 0)

    with pytest.raises(ValueError, match="maximum"):
        op("()->()", kind=["tanh", "relu"])(act)


def test_a_kink_within_an_op_made_of_ops_is_seen() -> None:
    def outer(x: Real) -> Array:
        return inner(x) + 1

    inner: Any = op("(n)->(n)", kinks=points(0))(hide_in_abs)
    with pytest.raises(ValueError, match="abs"):
        op("(n)->(n)")(outer)


def test_a_comparison_without_kinks_says_that_it_is_smooth() -> None:
    def softplus_of(x: Real) -> Array:
        return np.where(x > 30, x, np.log1p(np.exp(x)))

    with pytest.raises(ValueError, match="kinks=smooth"):
        op("()->()")(softplus_of)
    assert op("()->()", kinks=smooth)(softplus_of).kinks is None


def test_comparisons_of_integers_and_masks_have_no_kinks() -> None:
    def pick(x: Real, i: Index, table: Fixed) -> Array:
        return np.where((i == 0) & (table > 0), x, 2 * x)

    assert op(lambda _: Call(((2,), IntegerArrayBelow((2,), 3), (2,))))(pick).kinks is None


# What works on arrays alone


def mean_by_method(x: Real) -> Array:
    return x - x.mean(-1, keepdims=True)


def size_by_attribute(x: Real) -> Array:
    return x / x.size


def var_by_method(x: Real) -> Array:
    return x - x.var()


def partly_sorted(x: Real) -> Array:
    return np.partition(x, 0)


def promoted(x: Real) -> Array:
    return x * np.arange(x.shape[-1])


def a_list(x: Real) -> Array:
    return [x, x * 2]


def promoted_second(x: Real) -> Array:
    return x, x * np.arange(x.shape[-1])


def another_second(x: Real) -> Array:
    return x, x - x.var()


def nothing(x: Real) -> Array:
    del x


@pytest.mark.parametrize(
    ("formula", "advice"),
    [
        (mean_by_method, r"np.mean\(x, axis=-1, keepdims=True\) for x.mean\(-1, keepdims=True\)"),
        (size_by_attribute, r"np.size\(x\) for x.size"),
        (var_by_method, r"another value on tensors.*np.var\(x\) for x.var\(\)"),
        (partly_sorted, "np.partition has no rule"),
        (promoted, r"float64 for arrays of float32.*astype\(x.dtype\)"),
        (promoted_second, r"float64 for arrays of float32.*astype\(x.dtype\)"),
        (another_second, r"another value on tensors.*np.var\(x\) for x.var\(\)"),
        (a_list, r"returns \[.*an array, or a tuple of them"),
        (nothing, "returns None; .*an array, or a tuple of them"),
    ],
)
def test_a_formula_for_arrays_alone_is_refused_with_what_to_write(formula: Any, advice: str) -> None:
    with pytest.raises(TypeError, match=rf"op '{formula.__name__}': .*{advice}"):
        op("(n)->(n)")(formula)
    assert formula.__name__ not in {declared.name for declared in OPS.values()}
