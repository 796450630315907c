"""The rules of the spec, at the places where rules tend to be wrong, and their second derivatives."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gradspec.reference import OPS, Op, Tensor, layer_norm, ops, vjp
from gradspec.reference.calls import IntegerArrayBelow, SeededChoices
from gradspec.reference.domains import Booleans, Integers
from gradspec.reference.erf import erf
from gradspec.reference.ops import nn
from tests.helpers.forms import FORMS

Array = np.ndarray[Any, Any]
DIFFERENTIABLE_FORMS = sorted(name for name, form in FORMS.items() if form.differentiable)
FLOAT_DTYPES = (np.float16, np.float32, np.float64, np.longdouble)


def draw_inputs(op: Op, shapes: tuple[Any, ...], rng: np.random.Generator, dtype: Any) -> list[Array]:
    """Draw numbers of size 0.5 to 2, of both signs where the domain has both, and integers and booleans."""
    arrays = []
    for i, shape in enumerate(shapes):
        domain = op.domain(i)
        if isinstance(domain, Integers):
            assert isinstance(shape, IntegerArrayBelow)
            arrays.append(shape.pick(rng.integers(0, 2**16, shape.shape)))
        elif isinstance(domain, Booleans):
            arrays.append(np.asarray(rng.random(shape) < 0.5))
        else:
            sign = rng.choice([-1, 1], shape) if domain.low == -np.inf else 1
            arrays.append(np.asarray(rng.uniform(0.5, 2, shape) * sign).astype(dtype))
    return arrays


def call_op(op: Op, arrays: list[Any], keywords: dict[str, Any]) -> Any:
    return op(arrays, **keywords) if op.variadic else op(*arrays, **keywords)


def as_function_of_floats(
    op: Op, arrays: list[Any], keywords: dict[str, Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """Return the op as a function of those of its arrays that have a gradient, and these arrays."""
    floats = op.differentiable_arguments(len(arrays))

    def fn(*leaves: Any) -> Any:
        changed = dict(zip(floats, leaves, strict=True))
        return call_op(op, [changed.get(i, x) for i, x in enumerate(arrays)], keywords)

    return fn, [arrays[i] for i in floats]


def compute_gradients(op: Any, *arrays: Any, g: Any = None, **keywords: Any) -> Any:
    value, pullback = vjp(lambda *xs: op(*xs, **keywords), *(np.asarray(x, np.float64) for x in arrays))
    return pullback(np.ones(np.shape(value)) if g is None else np.asarray(g, np.float64))


# All ops


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("name", DIFFERENTIABLE_FORMS)
def test_value_and_pullbacks_have_the_dtype_of_the_arguments(name: str, dtype: Any) -> None:
    op = FORMS[name]
    for seed in range(20):
        call = op.draw_call(SeededChoices(seed))
        arrays = draw_inputs(op, call.shapes, np.random.default_rng(seed), dtype)
        value, pullbacks = op.rule(*arrays, **call.keywords)
        g = np.ones(np.shape(value), dtype)
        gradients = pullbacks(g) if callable(pullbacks) else [p and p(g) for p in pullbacks or ()]
        assert value.dtype == dtype
        assert {d.dtype for d in gradients if d is not None} <= {np.dtype(dtype)}


@pytest.mark.parametrize("name", DIFFERENTIABLE_FORMS)
def test_gradients_have_the_shape_of_the_arguments(name: str) -> None:
    op = FORMS[name]
    for seed in range(20):
        call = op.draw_call(SeededChoices(seed))
        arrays = draw_inputs(op, call.shapes, np.random.default_rng(seed), np.float32)
        fn, floats = as_function_of_floats(op, arrays, call.keywords)
        value, pullback = vjp(fn, *floats)
        assert [d.shape for d in pullback(np.ones_like(value))] == [x.shape for x in floats]


@pytest.mark.parametrize("name", DIFFERENTIABLE_FORMS)
def test_second_derivatives_are_those_of_the_first(name: str) -> None:
    """The derivative of sum u * grad(x) along t: by the tape, and by central differences in longdouble."""
    op = FORMS[name]
    for seed in range(6):
        rng = np.random.default_rng(seed)
        call = op.draw_call(SeededChoices(seed, (1, 2, 3)))
        arrays = draw_inputs(op, call.shapes, rng, np.longdouble)
        fn, floats = as_function_of_floats(op, arrays, call.keywords)
        g, *directions = [
            np.asarray(rng.normal(size=np.shape(x)), np.longdouble) for x in (fn(*floats), *floats, *floats)
        ]
        u, t = directions[: len(floats)], directions[len(floats) :]

        def along(*xs: Any, fn: Any = fn, g: Any = g, u: Any = u) -> Any:
            return sum((d * w).sum() for d, w in zip(vjp(fn, *xs)[1](g), u, strict=True))

        value, pullback = vjp(along, *floats)
        result = sum((d * w).sum() for d, w in zip(pullback(np.ones_like(value)), t, strict=True))
        h = np.longdouble(1e-5)
        one, minus_one, two, minus_two = (
            along(*(x + s * h * w for x, w in zip(floats, t, strict=True))) for s in (1, -1, 2, -2)
        )
        expected = (8 * (one - minus_one) - (two - minus_two)) / (12 * h)
        assert_allclose(result, expected, rtol=1e-8, atol=1e-8, err_msg=str((seed, call)))


@pytest.mark.parametrize(
    ("name", "x", "third"),
    [
        ("sigmoid", 0.0, -1 / 8),
        ("softplus", 0.0, 0.0),
        ("silu", 0.0, 0.0),
        ("tanh", 0.0, -2.0),
        ("gelu", 0.0, 0.0),
    ],
)
def test_higher_derivatives_are_smooth_at_zero(name: str, x: float, third: float) -> None:
    d: Any = OPS[name]
    for _ in range(3):
        d = lambda x, d=d: vjp(d, x)[1](np.ones(()))[0]
    assert_allclose(np.asarray(d(np.array(x))), third, atol=1e-15)


# Elementwise


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "silu", "gelu", "tanh", "relu"])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_activations_saturate_without_overflow(name: str, dtype: Any) -> None:
    limit = np.sqrt(np.finfo(dtype).max) / 4
    x = np.array([-limit, limit], dtype)
    value, pullback = vjp(OPS[name], x)
    top = {"sigmoid": 1, "tanh": 1}.get(name, limit)
    with np.errstate(under="ignore"):
        assert_allclose(value, np.array([-1 if name == "tanh" else 0, top], dtype), rtol=1e-3)
        assert_array_equal(pullback(np.ones(2, dtype))[0], [0, name not in ("sigmoid", "tanh")])


def test_sigmoid_keeps_its_relative_precision_far_below_zero() -> None:
    assert_allclose(ops.sigmoid(np.array(-80, np.float32)), np.exp(np.float32(-80)), rtol=1e-6)


def test_softplus_keeps_its_relative_precision_far_below_zero() -> None:
    assert_allclose(ops.softplus(np.array(-80, np.float32)), np.exp(np.float32(-80)), rtol=1e-6)


@pytest.mark.parametrize("name", ["expm1", "log1p"])
def test_small_arguments_are_not_lost(name: str) -> None:
    x = np.array(1e-12, np.float32)
    assert OPS[name](x) == x


def test_erf_in_longdouble_is_more_exact_than_a_double() -> None:
    if np.finfo(np.longdouble).nmant == np.finfo(np.float64).nmant:
        pytest.skip("this platform's longdouble is a double")
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(40):
        for x in (-5.5, -0.7, 1e-3, 0.3, 2.5, 8.5):
            expected = mpmath.erf(mpmath.mpf(x))
            result = np.longdouble(np.asarray(erf(np.array(x, np.longdouble))))
            assert abs(mpmath.mpf(str(result)) - expected) < 3 * float(np.finfo(np.longdouble).eps) * abs(
                expected
            )


@pytest.mark.parametrize(
    ("x", "y", "dx", "dy"),
    [
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 1.0, 1.0, 0.0),
        (0.0, 2.0, 0.0, 0.0),
        (3.0, 0.0, 0.0, np.log(3.0)),
        (1e-310, 0.0, 0.0, np.log(1e-310)),
        (2.0, -1.0, -0.25, np.log(2.0) / 2),
    ],
)
def test_pow_at_the_edges_of_its_domain(x: float, y: float, dx: float, dy: float) -> None:
    assert_allclose(compute_gradients(ops.pow, x, y), (dx, dy))


@pytest.mark.parametrize("y", [-2, 0, 1, 2, 3])
def test_a_negative_base_has_an_integer_power(y: int) -> None:
    assert_allclose(compute_gradients(lambda x: ops.pow(x, y), -3.0), [y * (-3.0) ** (y - 1)])


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_a_number_as_base_or_exponent_leaves_the_dtype(dtype: Any) -> None:
    x = np.array([1.5, 2.5], dtype)
    for op, k in itertools.product((ops.pow, ops.multiply, ops.divide, ops.maximum, ops.subtract), (2, 0.5)):
        left: Any = op.rule(x, k)
        right: Any = op.rule(k, x)
        assert {y.dtype for y in (left[0], left[1][0](x), right[0], right[1][1](x))} == {np.dtype(dtype)}


def test_mixed_derivative_of_pow_where_the_exponent_is_zero() -> None:
    """The derivative of y x^(y-1) by y is x^(y-1) (1 + y log x), which is 1/x at y = 0."""
    slope = lambda y: vjp(ops.pow, np.array(4.0), y)[1](np.array(1.0))[0]
    assert compute_gradients(slope, 0.0) == (0.25,)


@pytest.mark.parametrize(
    ("bounds", "value", "dx"),
    [
        ((None, None), [-2, 0, 1, 3], [1, 1, 1, 1]),
        ((0, None), [0, 0, 1, 3], [0, 0.5, 1, 1]),
        ((None, 1.0), [-2, 0, 1, 1], [1, 1, 0.5, 0]),
        ((0, 1), [0, 0, 1, 1], [0, 0.5, 0.5, 0]),
        ((2, 1), [1, 1, 1, 1], [0, 0, 0, 0]),
        ((np.array([-1.0, 5, 0, 0]), 2), [-1, 2, 1, 2], [0, 0, 1, 0]),
    ],
)
def test_clip_takes_no_bound_a_number_or_an_array(bounds: Any, value: Any, dx: Any) -> None:
    x = np.array([-2.0, 0, 1, 3])
    clipped, pullback = vjp(lambda x: ops.clip(x, *bounds), x)
    assert_array_equal(clipped, value)
    assert_array_equal(pullback(np.ones(4))[0], dx)


def test_clip_passes_gradients_on_to_its_bounds() -> None:
    x, low, high = [-3.0, 0.5, 4.0], [-1.0], 2.0
    assert_array_equal(ops.clip(np.array(x), np.array(low), high), [-1, 0.5, 2])
    dx, dlow, dhigh = compute_gradients(ops.clip, x, low, high, g=[2, 3, 5])
    assert (dx.tolist(), dlow.tolist(), dhigh.tolist()) == ([0, 3, 0], [2], 5)


def test_clip_keeps_integers() -> None:
    assert ops.clip(np.arange(4), 1).dtype == np.int64


def test_ties_are_shared_in_halves() -> None:
    for name in ("maximum", "minimum"):
        assert compute_gradients(OPS[name], 1.0, 1.0, g=3.0) == (1.5, 1.5)
    assert compute_gradients(ops.relu, 0.0) == (0.5,)
    assert compute_gradients(ops.abs, 0.0) == (0.0,)


@pytest.mark.parametrize("name", ["log", "sqrt", "divide", "reciprocal"])
def test_the_branch_not_taken_gives_no_nan(name: str) -> None:
    def apply_where_nonzero(x: Any) -> Any:
        safe = np.where(x == 0, 1, x)
        y = OPS[name](1.0, safe) if name == "divide" else OPS[name](safe)
        return ops.where(x == 0, 0.0, y)

    value, pullback = vjp(apply_where_nonzero, np.array([0.0, 4.0]))
    assert np.isfinite(value).all()
    assert np.isfinite(pullback(np.ones(2))[0]).all()


# Reductions


@pytest.mark.parametrize("x", [[2.0, 3, 5], [2, 0, 5], [0, 3, 0], [0, 0, 0], [7], []])
def test_prod_is_right_with_any_number_of_zeros(x: list[float]) -> None:
    others = [float(np.prod(x[:i] + x[i + 1 :])) for i in range(len(x))]
    assert_array_equal(compute_gradients(ops.prod, x)[0], others)


def test_prod_over_two_of_three_axes() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    g = np.array([2.0, 3, 5])
    moved = np.moveaxis(x, 1, 0).reshape(3, 8)
    expected = [[[np.prod(np.delete(row, i)) * w for i in range(8)]] for row, w in zip(moved, g, strict=True)]
    result = compute_gradients(ops.prod, x, g=g, axis=(2, 0))[0]
    assert_allclose(np.moveaxis(result, 1, 0).reshape(3, 1, 8), expected)


@pytest.mark.parametrize("op", [ops.max, ops.min])
def test_extremes_share_their_cotangent_equally(op: Op) -> None:
    assert_array_equal(
        compute_gradients(op, [[1.0, 1, 1, 1], [2, 2, 2, 2]], g=[8, 4], axis=1)[0], [[2] * 4, [1] * 4]
    )


def test_an_extreme_of_many_ties_has_float32_shares() -> None:
    x = np.ones(3, np.float32)
    third = np.float32(1) / np.float32(3)
    assert vjp(ops.max, x)[1](np.ones((), np.float32))[0].tolist() == [third] * 3


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), (1, 0), (-1, 0), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_take_axes_of_every_kind(axis: Any, keepdims: bool) -> None:
    x = np.arange(6.0).reshape(2, 3) + 1
    for name in ("sum", "mean", "max", "min", "prod", "var", "logsumexp"):
        value, pullback = vjp(lambda x, name=name: OPS[name](x, axis=axis, keepdims=keepdims), x)
        if name != "logsumexp":
            assert_allclose(value, getattr(np, name)(x, axis=axis, keepdims=keepdims))
        assert np.shape(value) == np.shape(np.sum(x, axis=axis, keepdims=keepdims))
        assert pullback(np.ones(np.shape(value)))[0].shape == x.shape


@pytest.mark.parametrize("axis", [2, -3, (0, 0), (0, -2)])
def test_impossible_axes_are_refused(axis: Any) -> None:
    for name in ("sum", "mean", "max", "prod", "var", "logsumexp"):
        with pytest.raises((IndexError, ValueError)):
            OPS[name](np.ones((2, 3)), axis=axis)


def test_var_of_a_large_mean_does_not_cancel() -> None:
    x = np.array([1.0, 2, 3, 4]) + 1e9
    assert ops.var(x) == 1.25
    assert_array_equal(compute_gradients(ops.var, x)[0], [-0.75, -0.25, 0.25, 0.75])


def test_var_of_too_few_elements_is_nan_or_infinite_but_not_negative() -> None:
    with np.errstate(all="ignore"):
        assert np.isnan(ops.var(np.ones(1), correction=1))
        assert ops.var(np.array([1.0, 2]), correction=3) == np.inf


def test_logsumexp_of_huge_numbers_is_finite() -> None:
    x = [1e4, 1e4, -1e4]
    assert_allclose(ops.logsumexp(np.array(x)), 1e4 + np.log(2))
    assert_allclose(compute_gradients(ops.logsumexp, x)[0], [0.5, 0.5, 0])


def test_logsumexp_knows_minus_infinity() -> None:
    x = np.array([[-np.inf, 0, 0], [-np.inf, -np.inf, -np.inf]])
    assert_allclose(ops.logsumexp(x, axis=1), np.array([np.log(2), -np.inf]))
    assert_allclose(compute_gradients(ops.logsumexp, x, axis=1)[0], np.array([[0, 0.5, 0.5], [0, 0, 0]]))


def test_logsumexp_of_nothing_is_minus_infinity() -> None:
    assert ops.logsumexp(np.ones((2, 0)), axis=1).tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_knows_minus_infinity_and_no_classes(name: str) -> None:
    x = np.array([-np.inf, 0, 0])
    assert_allclose(np.exp(ops.log_softmax(x)), [0, 0.5, 0.5])
    assert_allclose(ops.softmax(x), [0, 0.5, 0.5])
    assert np.isfinite(compute_gradients(OPS[name], x, g=[1, 2, 3])[0]).all()
    assert OPS[name](np.ones((3, 0))).shape == (3, 0)
    assert_allclose(OPS[name](np.full(2, 1e30)), {"softmax": 0.5, "log_softmax": -np.log(2)}[name])


# Shapes


@pytest.mark.parametrize("axes", list(itertools.product(*[(i, i - 3) for i in (2, 0, 1)])))
def test_signed_permutations_of_three_axes_are_undone(axes: tuple[int, ...]) -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    g = np.arange(24.0).reshape(4, 2, 3)
    result = compute_gradients(ops.permute_dims, x, g=g, axes=axes)[0]
    assert result.shape == x.shape
    assert all(result[i, j, k] == g[k, i, j] for i, j, k in np.ndindex(x.shape))


@pytest.mark.parametrize(
    "key",
    [
        2,
        -1,
        slice(None, None, -2),
        (Ellipsis, None, slice(3, 0, -1)),
        (None, 1, Ellipsis, -1),
        np.array([0, 0, -1]),
        [2, 2],
        [],
        np.array([[0, 1], [1, 1]]),
        (np.array([[0], [2]]), slice(None), np.array([1, 1, 0])),
        (slice(1), np.array([0, 1]), np.array([1, 1])),
        (Ellipsis, np.array([0, 1, 1])),
        np.arange(12).reshape(3, 4) % 3 == 0,
        np.array([True, False, True]),
        (np.array([True, False, True]), np.array([2, 2])),
        (0, np.array([], np.int64)),
        (),
        True,
        np.array(1),
    ],
    ids=repr,
)
def test_getitem_adds_every_cotangent_where_it_came_from(key: Any) -> None:
    x = np.arange(24.0).reshape(3, 4, 2)
    places = np.arange(24).reshape(x.shape)[key]
    g = np.random.default_rng(0).normal(size=np.shape(places))
    assert_array_equal(ops.getitem(x, key=key), x[key])
    expected = np.bincount(np.ravel(places), np.ravel(g), minlength=24).reshape(x.shape)
    assert_allclose(compute_gradients(ops.getitem, x, g=g, key=key)[0], expected, rtol=1e-15)


def test_getitem_out_of_range_is_refused() -> None:
    with pytest.raises(IndexError):
        ops.getitem(np.ones(3), key=3)


def test_concat_without_an_axis_flattens_first() -> None:
    x, y = np.ones((2, 2)), np.ones(())
    value, pullback = vjp(lambda x, y: ops.concat([x, y], axis=None), x, y)
    dx, dy = pullback(np.arange(5.0))
    assert value.shape == (5,)
    assert (dx.tolist(), dy.tolist()) == ([[0, 1], [2, 3]], 4)


@pytest.mark.parametrize("shape", [-1, (-1,), (3, -1), (2, 1, 3), 6])
def test_reshape_infers_one_length(shape: Any) -> None:
    assert compute_gradients(ops.reshape, np.ones((2, 3)), shape=shape)[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "arrays", "keywords"),
    [
        ("add", [(2,), (3,)], {}),
        ("matmul", [(2, 3), (2, 3)], {}),
        ("matmul", [(), (3,)], {}),
        ("linear", [(4, 3), (2, 4), (2,)], {}),
        ("linear", [(4, 3), (2, 3), (1,)], {}),
        ("linear", [(4, 3), (3,), ()], {}),
        ("layer_norm", [(4, 3), (1,), (3,)], {}),
        ("layer_norm", [(4, 3), (3,), ()], {}),
        ("layer_norm", [(3,), (4, 3), (4, 3)], {}),
        ("layer_norm", [(), (), ()], {}),
        ("cross_entropy", [(4, 3), (4, 3)], {}),
        ("reshape", [(2, 3)], {"shape": (4,)}),
        ("reshape", [(2, 3)], {"shape": (-1, -1)}),
        ("broadcast_to", [(2,)], {"shape": (3,)}),
        ("permute_dims", [(2, 3)], {"axes": (0,)}),
        ("permute_dims", [(2, 3)], {"axes": (0, -2)}),
        ("squeeze", [(2, 1)], {"axis": 0}),
        ("expand_dims", [(2,)], {"axis": 2}),
        ("matrix_transpose", [(2,)], {}),
        ("softmax", [(2,)], {"axis": 1}),
        ("gelu", [(2,)], {"approximate": "erf"}),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name: str, arrays: Any, keywords: Any) -> None:
    with pytest.raises((ValueError, IndexError), match=r"."):
        OPS[name](*(np.ones(shape) for shape in arrays), **keywords)


# Products


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((3,), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3,)),
        ((3,), (5, 3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (6, 3, 4)),
        ((0, 3), (3, 4)),
        ((2, 0), (0, 4)),
        ((0,), (0,)),
        ((5, 2, 3), (5, 3, 0)),
    ],
)
def test_matmul_is_differentiated_in_every_shape(x: Any, y: Any) -> None:
    """Compared with the sum of products that it stands for, written with broadcasting."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=x), rng.normal(size=y)]

    def written_out(x: Any, y: Any) -> Any:
        rows = ops.expand_dims(x, axis=-1)  # (..., m, n, 1)
        columns = ops.expand_dims(y, axis=-3) if y.ndim > 1 else ops.expand_dims(y, axis=-1)
        return ops.sum(rows * columns, axis=-2)

    value, pullback = vjp(ops.matmul, *arrays)
    same, pull_expected = vjp(written_out, *arrays)
    g = rng.normal(size=np.shape(value))
    assert_allclose(value, np.reshape(same, np.shape(value)), atol=1e-14)
    for d, w in zip(pullback(g), pull_expected(g.reshape(np.shape(same))), strict=True):
        assert_allclose(d, w, atol=1e-14)


@pytest.mark.parametrize("batch", [(), (4,), (2, 4), (0, 4), (2, 1, 4)])
def test_linear_takes_batches_of_any_rank(batch: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(*batch, 3)), rng.normal(size=(5, 3)), rng.normal(size=5)
    g = rng.normal(size=(*batch, 5))
    dx, dw, db = compute_gradients(ops.linear, x, w, b, g=g)
    assert_allclose(ops.linear(x, w, b), x @ w.T + b)
    assert_allclose(dx, g @ w)
    assert_allclose(dw, g.reshape(-1, 5).T @ x.reshape(-1, 3), atol=1e-14)
    assert_allclose(db, g.reshape(-1, 5).sum(axis=0), atol=1e-14)


def test_linear_does_without_bias_and_takes_it_by_name() -> None:
    x, w, b = np.ones((2, 3)), np.ones((4, 3)), np.ones(4)
    assert_array_equal(ops.linear(x, w), ops.linear(x, weight=w, bias=None))
    leaf = Tensor(b, requires_grad=True)
    ops.linear(x, w, bias=leaf).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [2] * 4


# Layers and losses


@pytest.mark.parametrize("batch", [(), (4,), (2, 4), (2, 1, 4)])
@pytest.mark.parametrize("normalized", [(5,), (3, 5), (1,)])
def test_layer_norm_takes_batches_of_any_rank(batch: tuple[int, ...], normalized: tuple[int, ...]) -> None:
    """Compared with the same, written out in smaller ops."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.normal(size=(*batch, *normalized)),
        rng.normal(size=normalized),
        rng.normal(size=normalized),
    ]
    axes = tuple(range(-len(normalized), 0))

    def written_out(x: Any, w: Any, b: Any) -> Any:
        centred = x - ops.mean(x, axis=axes, keepdims=True)
        return centred / ops.sqrt(ops.mean(centred * centred, axis=axes, keepdims=True) + 1e-5) * w + b

    g = rng.normal(size=arrays[0].shape)
    value, pullback = vjp(ops.layer_norm, *arrays)
    same, pull_expected = vjp(written_out, *arrays)
    assert_allclose(value, same, atol=1e-13)
    for d, w in zip(pullback(g), pull_expected(g), strict=True):
        assert_allclose(d, w, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_layer_norm_in_blocks_is_layer_norm(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    shapes = (5, 7, 6, 3), (6, 3), (6, 3), (5, 7, 6, 3)
    x, weight, bias, g = (rng.normal(size=shape).astype(dtype) for shape in shapes)
    value, pullback = vjp(ops.layer_norm, x, weight, bias)
    whole = value, *pullback(g)
    for module in (nn, layer_norm):
        # five rows to a block, and four blocks of them
        monkeypatch.setattr(module, "MAX_BLOCK_ELEMENTS", 100)
    value, pullback = vjp(ops.layer_norm, x, weight, bias)
    for result, expected in zip((value, *pullback(g)), whole, strict=True):
        assert result.dtype == dtype
        assert_allclose(result, expected, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("g", [np.inf, -np.inf, np.nan, 1e-45])
def test_no_cotangent_goes_to_what_relu_cuts_off(g: float) -> None:
    x = np.array([-1.0, 0.0, 1.0, np.nan], np.float32)
    cotangent = np.full(4, g, np.float32)
    (d,) = vjp(ops.relu, x)[1](cotangent)
    assert_array_equal(d, [0, cotangent[0] / 2, cotangent[0], 0])
    assert d.dtype == np.float32


def test_layer_norm_of_a_large_mean_does_not_cancel() -> None:
    x = np.array([1.0, 2, 3, 4])
    result = ops.layer_norm(x + 1e9, np.ones(4), np.zeros(4))
    assert_allclose(result, ops.layer_norm(x, np.ones(4), np.zeros(4)), rtol=1e-14)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 3, 2), (2, 3, 2, 5)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_finds_the_classes_on_the_second_axis(shape: tuple[int, ...], reduction: Any) -> None:
    rng = np.random.default_rng(0)
    axis = min(1, len(shape) - 1)
    x = rng.normal(size=shape)
    target = rng.integers(0, 3, (*shape[:axis], *shape[axis + 1 :]))

    def written_out(x: Any) -> Any:
        y = -ops.getitem(ops.log_softmax(x, axis=axis), key=_key_of_targets(target, axis))
        return y if reduction == "none" else OPS[reduction](y)

    value, pullback = vjp(lambda x: ops.cross_entropy(x, target, reduction=reduction), x)
    same, pull_expected = vjp(written_out, x)
    g = rng.normal(size=np.shape(value))
    assert_allclose(value, same)
    assert_allclose(pullback(g)[0], pull_expected(g)[0], atol=1e-15)


def _key_of_targets(target: Array, axis: int) -> tuple[Any, ...]:
    """Return the key of the targets' elements in logits whose classes lie along the axis."""
    around = list(np.indices(target.shape))
    return (*around[:axis], target, *around[axis:])


def test_cross_entropy_of_confident_logits_is_finite() -> None:
    x, target = np.array([[1e4, 0, 0]]), np.array([1])
    assert ops.cross_entropy(x, target) == 1e4
    assert_array_equal(compute_gradients(lambda x: ops.cross_entropy(x, target), x)[0], [[1, -1, 0]])


@pytest.mark.parametrize("target", [[3], [-1], [1.0], [True]])
def test_cross_entropy_refuses_targets_that_are_no_classes(target: Any) -> None:
    with pytest.raises(ValueError, match=r"integers in 0\.\.2"):
        ops.cross_entropy(np.ones((1, 3)), np.array(target))


def test_cross_entropy_refuses_an_unknown_reduction() -> None:
    with pytest.raises(ValueError, match="average"):
        ops.cross_entropy(np.ones(3), np.array(0), reduction="average")
