"""The tape: where gradients arrive and in what memory, what is recorded, and what is refused."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gradspec.reference import Tensor, no_grad, ops, record, vjp
from gradspec.reference.arrays import intern_shape_dtype, unbroadcast
from gradspec.reference.rule import VJP, Array
from gradspec.reference.tape import Variable


def leaf(*values: float, shape: Any = None) -> Tensor:
    x = np.array(values)
    return Tensor(x if shape is None else x.reshape(shape), requires_grad=True)


def grad_data(x: Tensor) -> Any:
    assert x.grad is not None
    return x.grad.data


# Where gradients arrive


@pytest.mark.parametrize("op", [ops.relu, lambda x: ops.maximum(x, np.array(0.5)), ops.tanh, ops.exp])
def test_a_second_derivative_of_a_number_is_an_array_too(op: Any) -> None:
    def gradient(x: Any, g: Any) -> Any:
        return vjp(op, x)[1](g)[0]

    _, pullback = vjp(gradient, np.array(1.0), np.array(0.0))
    assert {type(d) for d in pullback(np.array(0.75))} == {np.ndarray}


def test_a_diamond_counts_both_ways() -> None:
    x = leaf(3.0)
    y = x * x
    (y * x + y).sum().backward()  # x^3 + x^2
    assert_array_equal(grad_data(x), [27 + 6])


def test_a_value_used_often_collects_every_cotangent() -> None:
    x = leaf(1.0, 2.0)
    y = ops.exp(x)
    total = y
    for _ in range(9):
        total = total + y
    total.sum().backward()
    np.testing.assert_allclose(grad_data(x), 10 * np.exp([1.0, 2.0]))


def test_an_argument_given_twice_collects_both() -> None:
    x = leaf(3.0)
    (x * x).sum().backward()
    assert_array_equal(grad_data(x), [6])


@pytest.mark.parametrize("depth", [1, 5])
def test_consumers_of_different_depth_are_waited_for(depth: int) -> None:
    x = leaf(1.0)
    y = x * 2
    far = y
    for _ in range(depth):
        far = far * 3
    (far + y).sum().backward()
    assert_array_equal(grad_data(x), [2 * 3**depth + 2])


def test_gradients_accumulate_over_calls() -> None:
    x = leaf(1.0, 2.0)
    for _ in range(3):
        (x * x).sum().backward()
    assert_array_equal(grad_data(x), [6, 12])


def test_one_value_may_be_pulled_back_twice() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = (x * x).sum()
    y.backward()
    y.backward()
    assert_array_equal(grad_data(x), [4, 8, 12])


def test_two_values_may_share_their_beginning() -> None:
    x = leaf(2.0)
    y = x * x
    y.sum().backward()
    (y * y).sum().backward()
    assert_array_equal(grad_data(x), [4 + 32])


def test_only_leaves_keep_gradients() -> None:
    x = leaf(1.0)
    y = x * 2
    y.sum().backward()
    assert y.grad is None
    assert (x.is_leaf, y.is_leaf) == (True, False)


def test_a_leaf_is_its_own_gradient_s_end() -> None:
    x = leaf(1.0, 2.0)
    x.backward(np.array([3.0, 4.0]))
    assert_array_equal(grad_data(x), [3, 4])


def test_what_is_broadcast_is_summed() -> None:
    x, y = leaf(1.0, 2.0, shape=(2, 1)), leaf(1.0, 10.0, 100.0)
    (x * y).backward(np.arange(6.0).reshape(2, 3))
    assert_array_equal(grad_data(x), [[210], [543]])
    assert_array_equal(grad_data(y), [6, 9, 12])


def test_gradients_have_the_dtype_of_their_leaf() -> None:
    x, y = Tensor(np.ones(2, np.float32), requires_grad=True), leaf(2.0, 3.0)
    (x * y).sum().backward()
    assert (grad_data(x).dtype, grad_data(y).dtype) == (np.float32, np.float64)


def test_a_pullback_that_returns_everything_at_once_serves_every_argument() -> None:
    @record
    def both(x: Any, y: Any) -> VJP:
        return x * y, lambda g: (g * y, g * x)

    x, y = leaf(2.0), leaf(3.0)
    both(x, y).sum().backward()
    assert_array_equal([grad_data(x), grad_data(y)], [[3], [2]])


def test_a_pullback_that_nobody_needs_is_not_run() -> None:
    def refuse(g: Any) -> Any:
        raise AssertionError("this gradient was not asked for")

    @record
    def half_known(x: Any, y: Any) -> VJP:
        return x * y, (lambda g: g * y, refuse)

    x = leaf(2.0)
    half_known(x, Tensor(np.array([3.0]))).sum().backward()
    assert_array_equal(grad_data(x), [3])


# Memory


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, y: x + y,
        lambda x, y: (x + y) + x,
        lambda x, y: x.reshape(1, 3).reshape(3) + y,
        lambda x, y: x.flip(0) + y,
        lambda x, y: x.sum() + y,
        lambda x, y: (x * 2).sum() + y.sum(),
        lambda x, y: ops.concat([x, y]),
        lambda x, y: ops.stack([x, y]).permute(1, 0),
        lambda x, y: x[0:2].sum() + y[::-1],
        lambda x, y: x.expand(2, 3) + y,
    ],
)
def test_a_stored_gradient_is_writable_and_nobody_else_s(fn: Callable[..., Tensor]) -> None:
    x, y = leaf(1.0, 2.0, 3.0), leaf(4.0, 5.0, 6.0)
    value = fn(x, y)
    g = np.arange(1.0, 1 + value.data.size).reshape(value.shape)
    g_before = g.copy()
    value.backward(g)
    others = [g, x.data, y.data, value.data]
    for mine, other in ((grad_data(x), grad_data(y)), (grad_data(y), grad_data(x))):
        assert mine.flags.writeable
        assert not any(np.shares_memory(mine, array) for array in (*others, other))
    grad_data(x)[...] = 0
    assert_array_equal(g, g_before)


@pytest.mark.parametrize(
    "view",
    [lambda x: x.reshape(2, 3), lambda x: x.reshape(2, 3).view(), lambda x: x[:].reshape(2, 3)],
)
def test_a_view_of_what_a_pullback_keeps_is_not_given_away(view: Callable[[Array], Array]) -> None:
    buffer = np.arange(6.0)
    op = record(lambda x: (x * 1, (lambda g: view(buffer),)))
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    op(x).backward(np.ones((2, 3)))
    grad_data(x)[...] = 0
    assert_array_equal(buffer, np.arange(6.0))


def test_a_view_of_what_nobody_keeps_is_given_away() -> None:
    addresses = []

    def pull(g: Array) -> Array:
        y = g.reshape(6) * 2
        addresses.append(y.ctypes.data)
        return y.reshape(2, 3)

    x = Tensor(np.ones((2, 3)), requires_grad=True)
    record(lambda x: (x * 1, (pull,)))(x).backward(np.ones((2, 3)))
    assert grad_data(x).ctypes.data == addresses[0]


def test_accumulation_leaves_an_earlier_gradient_object_alone() -> None:
    x, y = leaf(1.0), leaf(1.0)
    (x + y).sum().backward()
    before = grad_data(x).copy()
    (x + y * 2).sum().backward()
    assert_array_equal(before, [1])
    assert_array_equal(grad_data(x), [2])
    assert_array_equal(grad_data(y), [3])


def test_gradients_of_vjp_share_no_memory() -> None:
    x, y = np.ones(3), np.ones(3)
    g = np.arange(3.0)
    _, pullback = vjp(lambda x, y: x + y, x, y)
    dx, dy = pullback(g)
    assert not np.shares_memory(dx, dy)
    assert not np.shares_memory(dx, g)
    dx[...] = 7
    assert_array_equal(pullback(g)[0], g)


@pytest.mark.parametrize("fn", [lambda x: x * x, ops.exp, lambda x: x, lambda x: x.reshape(2, 2) * x[0]])
def test_nothing_written_later_changes_a_pullback_of_vjp(fn: Callable[..., Any]) -> None:
    x = np.arange(1.0, 5.0)
    value, pullback = vjp(fn, x)
    g = np.arange(2.0, 2.0 + value.size).reshape(value.shape)
    expected = pullback(g)[0].copy()
    x[...] = value[...] = 7
    pullback(g)[0][...] = 7
    assert_array_equal(pullback(g)[0], expected)


def test_a_rule_that_writes_to_its_input_is_refused_by_vjp() -> None:
    @record
    def spoils(x: Any) -> VJP:
        x *= 2
        return x + 1, (lambda g: g,)

    x = np.array([1.0, np.nan])
    with pytest.raises(RuntimeError, match="wrote"):
        vjp(spoils, x)
    assert_array_equal(x, [1, np.nan])


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x,
        np.asfortranarray,
        lambda x: x[::-1, ::2],
        lambda x: np.broadcast_to(x[1], (3, 4)),
        lambda x: x[:0],
        lambda x: x[1, 2],
        lambda x: x[1, 2, ...],
        lambda x: np.array(x, object),
    ],
)
def test_vjp_meets_the_layout_of_its_input(layout: Callable[..., Any]) -> None:
    x = layout(np.arange(12.0).reshape(3, 4))
    inputs: list[Any] = []

    def fn(y: Tensor) -> Tensor:
        inputs.append(y.data)
        return y

    vjp(fn, x)
    assert_array_equal(inputs[0], x)
    assert inputs[0].strides == x.strides or not x.size
    assert not np.shares_memory(inputs[0], x)


def test_a_gradient_that_a_pullback_keeps_is_copied() -> None:
    buffer = np.ones(2)

    @record
    def saves(x: Any) -> VJP:
        return x * 1, (lambda g: buffer,)

    x = leaf(1.0, 2.0)
    for _ in range(2):
        saves(x).backward(np.ones(2))
        grad_data(x)[...] = 7
        assert_array_equal(buffer, [1, 1])
        x.grad = None


def test_a_gradient_that_a_pullback_keeps_a_view_of_is_copied() -> None:
    views = []

    @record
    def peeks(x: Any) -> VJP:
        def pull(g: Any) -> Any:
            d = g * 1
            views.append(d[:1])
            return d

        return x * 1, (pull,)

    x = leaf(1.0, 2.0)
    peeks(x).backward(np.ones(2))
    assert not np.shares_memory(grad_data(x), views[0])


def test_a_gradient_that_nobody_keeps_is_not_copied() -> None:
    addresses = []

    @record
    def makes(x: Any) -> VJP:
        def pull(g: Any) -> Any:
            d = g * 1
            addresses.append(d.ctypes.data)
            return d

        return x * 1, (pull,)

    x = leaf(1.0, 2.0)
    makes(x).backward(np.ones(2))
    assert grad_data(x).ctypes.data == addresses[0]


def test_a_record_is_freed_as_soon_as_its_value_is() -> None:
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = ops.exp(x) * 2
        array = weakref.ref(y.data)
        z = ops.layer_norm(ops.stack([y, y]), x, x).sum()
        z.backward()
        del y, z
        assert array() is None
    finally:
        gc.enable()


def test_a_chain_of_100_000_ops_is_pulled_back_and_freed() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1
    y.backward(np.ones(1))
    assert_array_equal(grad_data(x), [1])
    del y


# Whether anything is recorded


def test_nothing_is_recorded_without_tracking() -> None:
    x = leaf(1.0)
    with no_grad():
        y = x * 2
    assert not y.requires_grad
    assert y.is_leaf
    assert (x * 2).requires_grad


def test_an_exception_ends_no_grad() -> None:
    x = leaf(1.0)
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_no_grad_nests() -> None:
    x = leaf(1.0)
    with no_grad():
        with no_grad():
            pass
        assert not (x * 2).requires_grad


def test_no_grad_decorates_a_function() -> None:
    @no_grad()
    def double(x: Tensor) -> Any:
        return x * 2

    assert not double(leaf(1.0)).requires_grad
    assert not double(leaf(1.0)).requires_grad


def test_backward_works_within_no_grad() -> None:
    x = leaf(3.0)
    y = (x * x).sum()
    with no_grad():
        y.backward()
    assert_array_equal(grad_data(x), [6])


def test_vjp_records_within_no_grad() -> None:
    with no_grad():
        _, pullback = vjp(lambda x: x * x, np.array([3.0]))
    assert_array_equal(pullback(np.ones(1))[0], [6])


def test_a_result_requires_grad_if_an_argument_does() -> None:
    x, c = leaf(1.0), Tensor(np.ones(1))
    assert (x + c).requires_grad
    assert (c + x).requires_grad
    assert not (c + c).requires_grad
    assert not ops.equal(x, c).requires_grad
    assert not x.detach().requires_grad


def test_an_exception_in_a_pullback_leaves_everything_as_it_was() -> None:
    fail = True

    @record
    def moody(x: Any) -> VJP:
        def pull(g: Any) -> Any:
            if fail:
                raise ZeroDivisionError
            return g

        return x + 0, (pull,)

    x, y = leaf(1.0), leaf(2.0)
    z = (moody(x) + y * 2).sum()
    with pytest.raises(ZeroDivisionError):
        z.backward()
    assert x.grad is None
    assert y.grad is None
    assert (x * 2).requires_grad
    fail = False
    z.backward()
    assert_array_equal([grad_data(x), grad_data(y)], [[1], [2]])


# Overwriting


def test_overwriting_what_a_pullback_needs_is_an_error() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    with no_grad():
        x.add_(1.0)
    with pytest.raises(RuntimeError, match="overwritten"):
        y.backward()
    assert x.grad is None


@pytest.mark.parametrize(
    "view", [lambda x: x[0:1], lambda x: x.reshape(2, 1), lambda x: x.detach(), lambda x: x.flip(0)[1:]]
)
def test_overwriting_through_a_view_is_an_error(view: Callable[[Tensor], Any]) -> None:
    x = leaf(1.0, 2.0)
    y = ops.exp(x * x).sum()
    with no_grad():
        view(x).zero_()
    with pytest.raises(RuntimeError, match="overwritten"):
        y.backward()


def test_overwriting_a_result_that_its_pullback_reads_is_an_error() -> None:
    x = leaf(1.0)
    y = ops.exp(x)
    z = y.sum()
    with no_grad():
        y.mul_(2)
    with pytest.raises(RuntimeError, match="overwritten"):
        z.backward()


def test_overwriting_what_no_pullback_needs_is_fine() -> None:
    x = leaf(1.0, 2.0)
    y = (x + 1).sum()
    with no_grad():
        x.sub_(1.0)
    y.backward()
    assert_array_equal(grad_data(x), [1, 1])


def test_overwriting_before_the_op_is_fine() -> None:
    x = leaf(1.0, 2.0)
    with no_grad():
        x.mul_(3)
    (x * x).sum().backward()
    assert_array_equal(grad_data(x), [6, 12])


def test_a_training_step_in_place_works_again_and_again() -> None:
    w = leaf(4.0)
    for _ in range(3):
        w.grad = None
        (w * w).sum().backward()
        with no_grad():
            w -= 0.25 * grad_data(w)
    assert_array_equal(w.data, [0.5])


# What is refused


def test_a_value_of_several_elements_needs_a_cotangent() -> None:
    with pytest.raises(ValueError, match="cotangent"):
        (leaf(1.0, 2.0) * 2).backward()


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_cotangent_of_ones_may_be_asked_for_by_name(create_graph: bool) -> None:
    x = leaf(1.0, 2.0)
    (x * x * x).backward(ones=True, create_graph=create_graph)
    assert x.grad is not None
    assert x.grad.tolist() == [3, 12]
    assert x.grad.requires_grad == create_graph


def test_ones_beside_a_cotangent_are_refused() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match="either a cotangent or ones=True"):
        (x * 2).backward(np.array([1.0, 2.0]), ones=True)
    assert x.grad is None


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 2), (2, 1)])
def test_a_cotangent_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="same"):
        (leaf(1.0, 2.0) * 2).backward(np.ones(shape))
    with pytest.raises(ValueError, match="same"):
        vjp(lambda x: x * 2, np.ones(2))[1](np.ones(shape))


def test_backward_from_what_depends_on_no_leaf_is_refused() -> None:
    with pytest.raises(RuntimeError, match="requires_grad"):
        Tensor(np.ones(())).backward()


@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
def test_integers_have_no_gradients(dtype: Any) -> None:
    with pytest.raises(TypeError, match="floating-point"):
        Tensor(np.ones(2, dtype), requires_grad=True)
    with pytest.raises(TypeError, match="floating-point"):
        vjp(lambda x: x, np.ones(2, dtype))


def test_a_result_cannot_cease_to_require_grad() -> None:
    with pytest.raises(ValueError, match="detach"):
        (leaf(1.0) * 2).requires_grad_(False)


def test_what_was_computed_before_a_leaf_asked_for_gradients_gives_none() -> None:
    x, w = Tensor(np.ones(1)), leaf(2.0)
    y = x * w
    x.requires_grad_()
    (y + x).sum().backward()
    assert_array_equal([grad_data(x), grad_data(w)], [[1], [1]])


def test_a_pullback_of_the_wrong_shape_is_an_error() -> None:
    @record
    def wrong(x: Any) -> VJP:
        return x * 1, (lambda g: g[:1],)

    with pytest.raises(ValueError, match="shape"):
        wrong(leaf(1.0, 2.0)).sum().backward()


@pytest.mark.parametrize(
    ("shape", "expected"), [((2, 3), (2, 3)), ((3,), (3,)), ((1, 3), (1, 3)), ((2, 1), (2, 1)), ((), ())]
)
def test_unbroadcast_sums_to_the_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    g = np.arange(6.0).reshape(2, 3)
    result = unbroadcast(g, shape)
    assert result.shape == expected
    assert result.sum() == 15


# The functional form


def test_vjp_gives_arrays_for_arrays() -> None:
    value, pullback = vjp(lambda x, y: x * y, np.array([2.0]), np.array([3.0]))
    assert isinstance(value, np.ndarray)
    assert all(isinstance(d, np.ndarray) for d in pullback(np.ones(1)))


def test_vjp_gives_zeros_for_what_the_value_does_not_depend_on() -> None:
    _, pullback = vjp(lambda x, y: x * 2, np.ones(2), np.ones((3, 1), np.float32))
    _, dy = pullback(np.ones(2))
    assert_array_equal(dy, np.zeros((3, 1)))
    assert dy.dtype == np.float32
    assert_array_equal(vjp(lambda x: np.ones(2), np.ones(2))[1](np.ones(2))[0], [0, 0])


def test_vjp_of_the_identity_is_the_identity() -> None:
    g = np.arange(2.0)
    (d,) = vjp(lambda x: x, np.ones(2))[1](g)
    assert_array_equal(d, g)
    assert d is not g


def test_vjp_does_not_touch_leaves_that_are_not_its_inputs() -> None:
    w = leaf(5.0)
    value, pullback = vjp(lambda x: x * w, np.array([2.0]))
    assert_array_equal(pullback(np.ones(1))[0], [5])
    assert w.grad is None
    assert_array_equal(np.asarray(getattr(value, "data", value)), [10])


def test_gradients_of_gradients_by_nesting() -> None:
    """The function x^3, differentiated three times."""
    d: Any = lambda x: x * x * x
    for expected in (12.0, 12.0, 6.0):
        d = lambda x, d=d: vjp(d, x)[1](np.ones(()))[0]
        assert d(np.array(2.0)) == expected


def test_create_graph_lets_a_gradient_be_differentiated() -> None:
    x = leaf(2.0)
    (x * x * x).sum().backward(create_graph=True)
    assert x.grad is not None
    first, x.grad = x.grad, None
    assert_array_equal(first.data, [12])
    first.sum().backward()
    assert_array_equal(grad_data(x), [12])


def test_a_rule_works_on_any_kind_of_variable() -> None:
    x = Variable(np.array([2.0]), requires_grad=True)
    y = ops.exp(x)
    assert type(y) is Variable
    y.backward(np.ones(1))
    assert x.grad is not None
    assert type(x.grad) is Variable


# `backward` relies on elementwise ops: arguments of one shape and dtype give results of the same


def test_new_data_of_another_shape_is_seen() -> None:
    x, w = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
    (x * w).backward(np.ones(3))  # now both are known to have the same shape and dtype
    w.data = np.full(1, 2.0)
    w.grad = None
    (x * w).backward(np.array([1.0, 2.0, 3.0]))
    assert_array_equal(grad_data(w), [6.0])


def test_what_is_alike_in_size_alone_is_summed() -> None:
    x, w = Tensor(np.ones((1, 3)), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
    (x * w).backward(np.array([[1.0, 2.0, 3.0]]))
    assert grad_data(x).shape == (1, 3)
    assert grad_data(w).shape == (3,)


def test_what_is_alike_in_shape_alone_keeps_its_dtype() -> None:
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    w = Tensor(np.ones(3, np.float64), requires_grad=True)
    (x * w).log().backward(np.ones(3))
    assert grad_data(x).dtype == np.float32
    assert grad_data(w).dtype == np.float64


def test_a_form_that_was_forgotten_costs_time_alone() -> None:
    x, w = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2), requires_grad=True)
    y = x * w
    intern_shape_dtype.cache_clear()
    w.data = np.ones(2)
    (y * w).backward(np.ones(2))
    assert_array_equal(grad_data(w), [2.0, 2.0])


def test_what_asks_for_a_gradient_too_late_gets_none() -> None:
    x, w = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2))
    y = x * w
    w.requires_grad_()
    y.backward(np.ones(2))
    assert w.grad is None
    assert x.grad is not None


# Functions within functions


@pytest.mark.parametrize("at_outer", [True, False], ids=["at x", "at a constant"])
def test_an_inner_function_may_close_over_an_outer_variable(at_outer: bool) -> None:
    x, y, g = np.array([2.0, 3.0]), np.array([5.0, 7.0]), np.ones(2)

    def times_inner_gradient(inner: Callable[..., Any]) -> Callable[..., Any]:
        """Return x times the derivative of `inner(x, y)` by y, as a function of x."""
        return lambda x: ops.multiply(x, vjp(lambda t: inner(x, t), x if at_outer else y)[1](g)[0])

    def differentiate(inner: Callable[..., Any]) -> Array:
        return vjp(times_inner_gradient(inner), x)[1](g)[0]

    assert_array_equal(differentiate(ops.add), [1, 1])  # d/dx (x * 1)
    assert_array_equal(differentiate(ops.multiply), 2 * x)  # d/dx (x * x)
    squared = differentiate(lambda x, t: ops.multiply(x, ops.multiply(t, t)))  # d/dx (x * 2 x t)
    assert_array_equal(squared, 6 * x * x if at_outer else 4 * x * y)


def test_an_inner_value_of_arrays_alone_is_an_array() -> None:
    seen: list[Any] = []

    def outer(x: Any) -> Any:
        value, pullback = vjp(ops.square, np.array([3.0]))
        seen.extend([value, *pullback(np.array([1.0]))])
        return ops.multiply(x, value)

    _, pullback = vjp(outer, np.array([2.0]))
    assert_array_equal(pullback(np.array([1.0]))[0], [9])
    assert [type(x) for x in seen] == [np.ndarray, np.ndarray]
