"""`Tensor` compared with `torch.Tensor` by the same programs, and what only this `Tensor` does."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradspec.reference as spec
from gradspec.reference import Tensor, no_grad, ops, tensor

# Programs: each returns plain numbers, computed with nothing but `xp`.


def operators(xp: Any) -> Any:
    x = xp.tensor([1.5, -2.0, 3.0], requires_grad=True)
    y = xp.tensor([0.5, 4.0, -1.0], requires_grad=True)
    z = (2 * x + y / 2 - 1) * (3 - y) / (x * x + 1) - (-x) + 1 / y
    z.backward(xp.tensor([1.0, 2.0, 3.0]))
    return z.tolist(), x.grad.tolist(), y.grad.tolist()


def powers(xp: Any) -> Any:
    x = xp.tensor([1.5, 2.0, 0.25], requires_grad=True)
    y = xp.tensor([2.0, -1.0, 0.5], requires_grad=True)
    (x**y + x**3 + 2**y + x**-0.5).backward(xp.tensor([1.0, -2.0, 3.0]))
    return x.grad.tolist(), y.grad.tolist()


def unary_functions(xp: Any) -> Any:
    results = []
    names = "exp log sqrt tanh sigmoid sin cos abs square reciprocal log1p"
    for name in names.split():
        x = xp.tensor([0.25, 1.0, 2.5], requires_grad=True)
        y = getattr(x, name)()
        y.backward(xp.tensor([1.0, -1.0, 2.0]))
        results.append((y.tolist(), x.grad.tolist()))
    return results


def reductions(xp: Any) -> Any:
    results = []
    for name in ["sum", "mean", "amax", "amin", "logsumexp", "var"]:
        for dim, keepdim in [(0, False), (-1, True), ((0, 1), False)]:
            x = xp.tensor([[1.0, 5.0, -2.0], [4.0, 0.5, 3.0]], requires_grad=True)
            y = getattr(x, name)(dim, keepdim=keepdim)
            (y * y).sum().backward()
            results.append((y.tolist(), x.grad.tolist()))
    return results


def reductions_of_everything(xp: Any) -> Any:
    x = xp.tensor([[1.0, 5.0], [4.0, 0.5]], requires_grad=True)
    y = x.sum() * x.mean() + x.max() * x.min() + x.prod() + x.var()
    y.backward()
    return y.item(), x.grad.tolist()


def shapes(xp: Any) -> Any:
    x = xp.arange(24.0, requires_grad=True)
    y = x.reshape(2, 3, 4).permute(2, 0, -2).transpose(0, -1).flip(0, 2)
    y = y.unsqueeze(1).squeeze(1).flatten().view(4, -1).t().T.expand(2, -1, -1)
    weights = xp.arange(48.0).reshape(2, 4, 6)
    (y * weights).sum().backward()
    return y.tolist(), tuple(y.shape), x.grad.tolist()


def squeezing(xp: Any) -> Any:
    x = xp.zeros(1, 3, 1)
    shapes = (x.squeeze(), x.squeeze(0), x.squeeze(1), x.squeeze(-1), x.squeeze((0, 1)), x.unsqueeze(-1))
    return [tuple(y.shape) for y in shapes]


def numbers_along_an_axis(xp: Any) -> Any:
    results = []
    for name in [
        "sum",
        "mean",
        "amax",
        "amin",
        "logsumexp",
        "prod",
        "softmax",
        "log_softmax",
        "flip",
        "squeeze",
    ]:
        for dim in (0, -1):
            x = xp.tensor(2.0, requires_grad=True)
            y = getattr(x, name)(dim)
            y.backward()
            results.append((y.item(), tuple(y.shape), x.grad.item()))
    x = xp.tensor(2.0)
    return results, x.argmax(0).item(), x.transpose(0, -1).item(), x.var(0, correction=0).item()


def indexing(xp: Any) -> Any:
    x = xp.arange(12.0, requires_grad=True)
    m = x.reshape(3, 4)
    y = m[1].sum() + (m[:, 1:3] * 2).sum() + m[-1, -1] * 5
    y = y + (m[..., None, 0] * 3).sum() + (m[[0, 0, 2]] * 7).sum()
    y.backward()
    return y.item(), x.grad.tolist(), [row.tolist() for row in m]


def masks(xp: Any) -> Any:
    x = xp.tensor([1.0, -2.0, 3.0], requires_grad=True)
    (x[x > 0] * x[x > 0]).sum().backward()
    kinds = [x == 1, x != 1, x < 1, x <= 1, x > 1, x >= 1]
    return x.grad.tolist(), [k.tolist() for k in kinds]


def clamping(xp: Any) -> Any:
    x = xp.tensor([1.0, -2.0, 3.0], requires_grad=True)
    y = x.clamp(-1, 2) + x.clamp(min=0.5) + x.clamp(max=2.5)
    y.backward(xp.tensor([1.0, 2.0, 3.0]))
    return y.tolist(), x.grad.tolist()


def products(xp: Any) -> Any:
    x = xp.tensor([[1.0, 2.0], [3.0, -1.0]], requires_grad=True)
    v = xp.tensor([0.5, -2.0], requires_grad=True)
    ((x @ v) * (v @ x) + v @ v).backward(xp.tensor([1.0, 3.0]))
    return x.grad.tolist(), v.grad.tolist(), (x @ x.mT).tolist()


def layers(xp: Any) -> Any:
    x = xp.tensor([[1.0, 2.0, -1.0], [0.5, 3.0, 1.0]], requires_grad=True)
    y = x.softmax(-1) * x.log_softmax(0) + x.relu()
    y.backward(xp.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]]))
    return y.tolist(), x.grad.tolist()


def gradient_descent(xp: Any) -> Any:
    w = xp.tensor([2.0, -3.0], requires_grad=True)
    losses = []
    for _ in range(5):
        loss = ((w - 1) ** 2).sum()
        loss.backward()
        losses.append(loss.item())
        with xp.no_grad():
            w -= 0.1 * w.grad
            w.add_(w.grad, alpha=-0.05)
        w.grad.zero_()
    return losses, w.tolist()


def requires_grad_flags(xp: Any) -> Any:
    x = xp.ones(2, requires_grad=True)
    c = xp.ones(2)
    with xp.no_grad():
        off = x * 2
    tensors = [x, c, x + c, c + c, off, x.detach(), x.clone(), x[0], x.sum(), x == c]
    return [(y.requires_grad, y.is_leaf) for y in tensors], c.requires_grad_().requires_grad, x.grad


def in_place(xp: Any) -> Any:
    x = xp.zeros(2, 3)
    x += 1
    x -= 3
    x *= 2
    x.add_(xp.ones(3), alpha=2).sub_(1, alpha=0.5).mul_(2)
    y = xp.empty(2, 3).copy_(x)
    x.zero_()
    return x.tolist(), y.tolist()


def sizes_and_numbers(xp: Any) -> Any:
    x = xp.tensor([[1.0, 2.0]])
    one = xp.tensor(3.5)
    return (
        *(len(x), x.ndim, x.dim(), x.numel(), tuple(x.shape), tuple(x.size()), x.size(-1)),
        *(one.item(), float(one), int(one), bool(one), bool(xp.zeros(1)), [y.tolist() for y in x]),
    )


def accumulation(xp: Any) -> Any:
    x = xp.tensor([1.0, 2.0], requires_grad=True)
    for _ in range(3):
        (x * x).sum().backward()
    return x.grad.tolist()


PROGRAMS = (
    *(operators, powers, unary_functions, reductions, reductions_of_everything),
    *(shapes, squeezing, numbers_along_an_axis, indexing, masks, clamping, products, layers),
    *(gradient_descent, requires_grad_flags, in_place, sizes_and_numbers, accumulation),
)


def assert_alike(result: Any, expected: Any) -> None:
    """Compare numbers to the precision of float32 and the rest exactly, in tuples and lists of any depth."""
    if isinstance(expected, tuple | list):
        assert isinstance(result, tuple | list)
        assert len(result) == len(expected)
        for f, w in zip(result, expected, strict=True):
            assert_alike(f, w)
    elif isinstance(expected, float):
        assert isinstance(result, float)
        assert math.isclose(result, expected, rel_tol=2e-6, abs_tol=2e-6), (result, expected)
    else:
        assert result == expected
        assert type(result) is type(expected)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_a_program_gives_what_torch_gives(program: Callable[[Any], Any]) -> None:
    torch = pytest.importorskip("torch")
    with np.errstate(all="ignore"):
        assert_alike(program(spec), program(torch))


def cotangent_of_wrong_shape(xp: Any) -> None:
    (xp.ones(2, requires_grad=True) * 2).backward(xp.ones(3))


def no_cotangent(xp: Any) -> None:
    (xp.ones(2, requires_grad=True) * 2).backward()


def backward_without_grad(xp: Any) -> None:
    xp.ones(1).backward()


def backward_after_overwriting(xp: Any) -> None:
    x = xp.ones(2, requires_grad=True)
    y = (x * x).sum()
    with xp.no_grad():
        x += 1
    y.backward()


def in_place_on_a_leaf(xp: Any) -> None:
    x = xp.ones(2, requires_grad=True)
    x += 1


def in_place_that_grows(xp: Any) -> None:
    x = xp.ones(2)
    x += xp.ones(3, 2)


def bool_of_many(xp: Any) -> None:
    bool(xp.ones(2))


def bool_of_none(xp: Any) -> None:
    bool(xp.ones(0))


def item_of_many(xp: Any) -> None:
    xp.ones(2).item()


def len_of_a_number(xp: Any) -> None:
    len(xp.tensor(1.0))


def list_of_a_number(xp: Any) -> None:
    list(xp.tensor(1.0))


def numpy_of_a_leaf(xp: Any) -> None:
    xp.ones(2, requires_grad=True).numpy()


def uniform_on_a_leaf(xp: Any) -> None:
    xp.ones(2, requires_grad=True).uniform_()


def shapes_that_do_not_fit(xp: Any) -> None:
    xp.ones(2).add(xp.ones(3))


def no_such_axis(xp: Any) -> None:
    xp.ones(2).sum(1)


def no_such_element(xp: Any) -> None:
    xp.ones(2)[2]


def requires_grad_off_on_a_result(xp: Any) -> None:
    (xp.ones(2, requires_grad=True) * 2).requires_grad_(False)


REFUSED_PROGRAMS = (
    *(cotangent_of_wrong_shape, no_cotangent, backward_without_grad, backward_after_overwriting),
    *(in_place_on_a_leaf, in_place_that_grows, bool_of_many, bool_of_none, item_of_many),
    *(len_of_a_number, list_of_a_number, numpy_of_a_leaf, uniform_on_a_leaf),
    *(shapes_that_do_not_fit, no_such_axis, no_such_element, requires_grad_off_on_a_result),
)


@pytest.mark.parametrize("program", [bool_of_many, bool_of_none, item_of_many], ids=lambda p: p.__name__)
def test_the_error_is_that_of_torch(program: Callable[[Any], Any]) -> None:
    with pytest.raises(RuntimeError, match=r"a tensor of shape|only a tensor of one element"):
        program(spec)
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError):
        program(torch)


@pytest.mark.parametrize("program", REFUSED_PROGRAMS, ids=lambda p: p.__name__)
def test_what_torch_refuses_is_refused(program: Callable[[Any], Any]) -> None:
    errors = (RuntimeError, ValueError, TypeError, IndexError)
    with pytest.raises(errors):
        program(spec)
    torch = pytest.importorskip("torch")
    with pytest.raises(errors):
        program(torch)


# Constructors


@pytest.mark.parametrize("data", [1.5, [0, 2.5], [[1.0], [2.0]], (1.0, 2), [], [tensor(1.5), tensor(2.5)]])
def test_python_floats_become_float32(data: Any) -> None:
    assert tensor(data).dtype == np.float32
    assert tensor(data).tolist() == np.array(data).tolist()


@pytest.mark.parametrize("data", [3, [0, 2], [[1], [2]], (1, 2)])
def test_python_integers_stay_integers(data: Any) -> None:
    assert tensor(data).dtype == np.int64
    assert_array_equal(tensor(data).data, data)
    with pytest.raises(TypeError, match="floating-point"):
        tensor(data, requires_grad=True)


@pytest.mark.parametrize(
    ("arguments", "dtype", "elements"),
    [
        ((3,), np.int64, [0, 1, 2]),
        ((0, 3), np.int64, [0, 1, 2]),
        ((1, 7, 2), np.int64, [1, 3, 5]),
        ((5, 0, -2), np.int64, [5, 3, 1]),
        ((3.0,), np.float32, [0, 1, 2]),
        ((0, 1, 0.25), np.float32, [0, 0.25, 0.5, 0.75]),
    ],
)
def test_a_range_of_integers_is_one_of_int64(arguments: Any, dtype: Any, elements: list[Any]) -> None:
    x = spec.arange(*arguments)
    assert x.dtype == dtype
    assert x.tolist() == elements
    assert spec.arange(*arguments, dtype=np.float64).dtype == np.float64


def test_the_step_of_a_range_may_be_named() -> None:
    assert spec.arange(0, 3, step=2).tolist() == spec.arange(3, step=2).tolist() == [0, 2]


@pytest.mark.parametrize("data", [[1.0, 2.0], [1, 2], [[1], [2]], (1.0, 2.0)])
def test_a_list_is_converted_by_the_class_too(data: Any) -> None:
    """In float32 whatever is in it, as by `torch.Tensor`."""
    x = Tensor(data, requires_grad=True)
    assert x.dtype == np.float32
    (x * x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == (2 * np.array(data)).tolist()


@pytest.mark.parametrize("data", [3, 2.5, True])
def test_the_class_takes_no_number_which_torch_takes_for_a_length(data: Any) -> None:
    with pytest.raises(TypeError, match=rf"write tensor\({data}\)"):
        Tensor(data)


def test_the_class_takes_tensors_and_numbers_of_numpy() -> None:
    x = tensor([1.0, 2.0])
    assert Tensor(x).data is x.data
    assert (Tensor(np.float64(2.5)) * 2).item() == 5


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.bool_, np.longdouble])
def test_arrays_keep_their_dtype(dtype: Any) -> None:
    x = np.ones(2, dtype)
    assert tensor(x).dtype == tensor(x[0]).dtype == tensor(tensor(x)).dtype == dtype
    assert tensor([True]).dtype == np.bool_
    assert tensor(x, dtype=np.float32).dtype == np.float32


def test_a_new_tensor_copies() -> None:
    x = np.ones(2)
    y = tensor(x)
    x[0] = 5
    assert y.tolist() == [1, 1]


def test_constructors_take_shapes_as_torch_does() -> None:
    for make in (spec.zeros, spec.ones, spec.empty):
        assert make(2, 3).shape == make((2, 3)).shape == (2, 3)
        assert make().shape == ()
        assert make(2).dtype == np.float32
        assert make(2, dtype=np.float64, requires_grad=True).requires_grad


def draw_numbers() -> list[Any]:
    return [spec.randn(3).tolist(), spec.rand(2, 2).tolist(), spec.empty(2).uniform_().tolist()]


def test_a_seed_repeats_random_tensors() -> None:
    spec.manual_seed(3)
    first = draw_numbers()
    assert draw_numbers() != first
    spec.manual_seed(3)
    assert draw_numbers() == first
    spec.manual_seed(4)
    assert draw_numbers() != first


def test_random_tensors_have_their_distribution() -> None:
    spec.manual_seed(1)
    normal, uniform = spec.randn(100, 100), spec.rand((100, 100), dtype=np.float64, requires_grad=True)
    assert abs(normal.mean().item()) < 0.05  # five times its standard deviation
    assert abs(normal.var().item() - 1) < 0.08
    assert normal.dtype == np.float32
    assert 0 <= uniform.min().item() < 0.01
    assert 0.99 < uniform.max().item() < 1
    assert uniform.dtype == np.float64
    assert uniform.requires_grad


def test_uniform_fills_the_range_and_can_be_repeated() -> None:
    x = spec.empty(1000).uniform_(-2, 3, generator=np.random.default_rng(1))
    y = spec.empty(1000).uniform_(-2, 3, generator=np.random.default_rng(1))
    assert x.tolist() == y.tolist()
    assert -2 <= x.min().item() < -1.9
    assert 2.9 < x.max().item() < 3
    assert x.dtype == np.float32


# Integers and booleans


def test_integers_stay_integers() -> None:
    x = tensor(np.array([1, 2]))
    assert (x + 1).dtype == np.int64
    assert x.float().dtype == np.float32
    assert (x * 1.5).dtype == np.float64


def test_an_integer_may_be_an_argument_of_a_recorded_op() -> None:
    x, i = tensor([1.0, 2.0], requires_grad=True), tensor(np.array([3, 4]))
    (x * i).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3, 4]
    assert x.grad.dtype == np.float32
    assert i.grad is None


def test_a_cast_to_integers_ends_the_record() -> None:
    x = tensor([1.5], requires_grad=True)
    assert not x.astype(np.int64).requires_grad
    x.double().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == np.float32


def test_a_fraction_is_not_added_to_integers_in_place() -> None:
    x = tensor(np.array([1, 2]))
    with pytest.raises(TypeError):
        x += 0.5
    with pytest.raises(TypeError):
        x.uniform_()
    assert x.tolist() == [1, 2]


# NumPy's functions


def test_an_array_on_the_left_gives_a_tensor() -> None:
    a, x = np.array([6.0, 8.0]), Tensor(np.array([2.0, 4.0]), requires_grad=True)
    for y, expected in (
        (a + x, 8),
        (a - x, 4),
        (a * x, 12),
        (a / x, 3),
        (a @ x, 44),
        (a**x, 36),
        (np.float64(6) * x, 12),
    ):
        assert isinstance(y, Tensor)
        assert y.requires_grad
        assert y.data.flat[0] == expected
    assert (a > x).tolist() == [True, True]


def test_functions_of_numpy_are_the_ops_of_the_same_name() -> None:
    x = Tensor(np.array([[1.0, 2.0]]), requires_grad=True)
    for fn in (
        np.exp,
        np.sum,
        np.matrix_transpose,
        np.square,
        lambda x: np.concatenate([x, x]),
        lambda x: np.where(x > 1, x, 0),
    ):
        y = fn(x)
        assert isinstance(y, Tensor)
        assert y.requires_grad
        assert_array_equal(y.data, fn(x.data))


@pytest.mark.parametrize("fn", [np.arctan, np.median, np.multiply.accumulate])
def test_a_function_without_a_rule_is_refused(fn: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="has no rule"):
        fn(tensor([1.0]))


def test_an_array_is_given_away_for_reading_only() -> None:
    x = tensor([1.0, 2.0])
    assert np.asarray(x).tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 5
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(tensor([1.0], requires_grad=True))


# The rest


def test_tensors_are_hashed_by_identity() -> None:
    x, y = tensor([1.0]), tensor([1.0])
    assert len({x, y, x}) == 2


def test_repr_says_what_torch_says() -> None:
    assert repr(tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(tensor(np.ones(1), requires_grad=True)) == "tensor([1.], dtype=float64, requires_grad=True)"


def test_reductions_take_lists_and_over_no_axes_means_over_all() -> None:
    x = spec.ones(2, 3)
    assert x.sum([0, 1]).item() == x.sum(()).item() == x.sum([]).item() == 6


def test_detach_shares_memory_and_clone_does_not() -> None:
    x = tensor([1.0, 2.0], requires_grad=True)
    with no_grad():
        x.clone().zero_()
        assert x.tolist() == [1, 2]
        x.detach().zero_()
        assert x.tolist() == [0, 0]


def test_second_derivatives_through_methods() -> None:
    """The Hessian of sum (x softmax(x))^2 + |x|^3, by nested `vjp` and by differences of the gradient."""

    def f(x: Any) -> Any:
        return ((x * x.softmax(-1)) ** 2).sum() + (x.abs() ** 3).sum()

    def slope(x: Any) -> Any:
        return spec.vjp(f, x)[1](np.ones(()))[0]

    x, h = np.array([0.5, -1.0, 2.0]), 1e-5
    for g in np.eye(3):
        result = spec.vjp(slope, x)[1](g)[0]
        assert_allclose(result, (slope(x + h * g) - slope(x - h * g)) / (2 * h), atol=1e-8)


def test_the_ops_are_the_methods() -> None:
    x = tensor([1.0, 2.0])
    assert ops.exp(x).tolist() == x.exp().tolist()
