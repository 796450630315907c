"""NumPy's functions of tensors that are made of ops: what they give on arrays, on the tape."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gradspec.reference import OPS, Tensor, op
from gradspec.reference.calls import Call
from gradspec.reference.domains import Real
from gradspec.reference.numpy_functions import MADE_OF_OPS
from gradspec.reference.rule import VJP

_rng = np.random.default_rng(0)
X, M, V = _rng.normal(size=(2, 3, 4)), _rng.normal(size=(4, 4)), _rng.normal(size=4)
POSITIVE = np.abs(X)

CALLS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (np.transpose, (X,), {}),
    (np.transpose, (X, (2, 0, 1)), {}),
    (np.swapaxes, (X, 0, -1), {}),
    (np.moveaxis, (X, 0, -1), {}),
    (np.moveaxis, (X, (0, 2), (1, 0)), {}),
    (np.ravel, (X,), {}),
    (np.take, (X, [0, 2, 2]), {"axis": 1}),
    (np.take, (X, np.array([[5, 1]])), {}),
    (np.split, (X, 2), {"axis": -1}),
    (np.split, (X, [1, 3]), {"axis": 2}),
    (np.unstack, (X,), {"axis": 1}),
    (np.repeat, (X, 2), {"axis": 1}),
    (np.repeat, (X, 2), {}),
    (np.tile, (X, 2), {}),
    (np.tile, (X, (2, 1, 1, 2)), {}),
    (np.roll, (X, 2), {}),
    (np.roll, (X, (1, -1), (0, 2)), {}),
    (np.diff, (X,), {}),
    (np.diff, (X, 2), {"axis": 1}),
    (np.diagonal, (X,), {}),
    (np.diagonal, (X, 1, 1, 2), {}),
    (np.diagonal, (X, -1, 1, 2), {}),
    (np.trace, (X,), {}),
    (np.tril, (X,), {}),
    (np.tril, (M, -1), {}),
    (np.triu, (X, 1), {}),
    (np.std, (X,), {"axis": 1}),
    (np.cumsum, (X,), {}),
    (np.cumsum, (X, -2), {}),
    (np.add.accumulate, (X,), {"axis": 1}),
    (np.cumulative_sum, (X,), {"axis": 1, "include_initial": True}),
    (np.take_along_axis, (X, np.argsort(X, axis=1), 1), {}),
    (np.pad, (X, 1), {}),
    (np.pad, (X, ((0, 1), (2, 0), (0, 0))), {"constant_values": 3}),
    (np.einsum, ("ijk,kl->jl", X, M), {}),
    (np.std, (X, 1), {"ddof": 1, "keepdims": True}),
    (np.outer, (V, M), {}),
    (np.dot, (M, V), {}),
    (np.dot, (X, M), {}),
    (np.dot, (X, X.transpose(0, 2, 1)), {}),
    (np.dot, (V, V), {}),
    (np.inner, (X, V), {}),
    (np.tensordot, (X, M, 1), {}),
    (np.tensordot, (X, X, ([0, 2], [0, 2])), {}),
    (np.vecdot, (X, V), {}),
    (np.copy, (X,), {}),
    (np.astype, (X, np.float32), {}),
    (np.hstack, ([X, X],), {}),
    (np.hstack, ([V, V],), {}),
    (np.vstack, ([V, M],), {}),
    (np.linalg.matmul, (M, M), {}),
    (np.linalg.matrix_transpose, (X,), {}),
    (np.linalg.outer, (V, V), {}),
    (np.linalg.vecdot, (M, V), {}),
    (np.linalg.tensordot, (M, M), {"axes": 1}),
    (np.linalg.diagonal, (X,), {"offset": 1}),
    (np.linalg.trace, (X,), {}),
    (np.linalg.vector_norm, (X,), {"axis": -1}),
    (np.linalg.norm, (X,), {}),
    (np.linalg.norm, (X,), {"axis": 1, "keepdims": True}),
    (np.positive, (X,), {}),
    (np.exp2, (X,), {}),
    (np.log2, (POSITIVE,), {}),
    (np.log10, (POSITIVE,), {}),
    (np.sinh, (X,), {}),
    (np.cosh, (X,), {}),
    (np.tan, (X,), {}),
]


def as_tensors(x: Any) -> Any:
    if isinstance(x, np.ndarray) and x.dtype == np.float64:
        return Tensor(x, requires_grad=True)
    return [*map(as_tensors, x)] if isinstance(x, list) and isinstance(x[0], np.ndarray) else x


@pytest.mark.parametrize(("function", "args", "keywords"), CALLS)
def test_a_function_gives_what_it_gives_on_arrays(function: Any, args: Any, keywords: Any) -> None:
    expected, got = function(*args, **keywords), function(*map(as_tensors, args), **keywords)
    several = isinstance(expected, list | tuple)
    for want, result in zip(*((expected, got) if several else ([expected], [got])), strict=True):
        assert isinstance(result, Tensor)
        assert result.requires_grad
        assert result.dtype == np.asarray(want).dtype
        assert_allclose(result.data, want, rtol=1e-6 if result.dtype == np.float32 else 1e-13)


def test_every_function_is_tried() -> None:
    assert set(MADE_OF_OPS) <= {function for function, _, _ in CALLS}


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (np.pad, (X, 1, "edge")),
        (np.split, (X, 3, 2)),
        (np.linalg.norm, (X, 1)),
        (np.linalg.norm, (X, np.inf)),
        (np.sort, (X,)),
    ],
)
def test_what_has_no_rule_says_so(function: Any, args: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"rule for tensors|equal parts"):
        function(*map(as_tensors, args))


def test_shapes_are_read_and_constants_made() -> None:
    x = Tensor(X, requires_grad=True)
    assert (np.shape(x), np.ndim(x), np.size(x), np.size(x, 1)) == (X.shape, 3, 24, 3)
    assert np.result_type(x, np.float32) == np.float64
    for constant in (np.zeros_like(x), np.full_like(x, 2, dtype=np.float32), np.any(x > 0, axis=1)):
        assert isinstance(constant, Tensor)
        assert not constant.requires_grad
    assert np.array_equal(np.any(x > 0, axis=1).numpy(), np.any(X > 0, axis=1))


@pytest.mark.usefixtures("restored_registry")
@pytest.mark.parametrize("name", ["arctan", "atan", "cbrt"])
def test_an_op_declared_later_is_found(name: str) -> None:
    function = getattr(np, name)

    def rule(x: Real) -> VJP:
        return function(x), (lambda g: g * 3,)

    with pytest.raises(TypeError, match=f"np.{function.__name__} .*has no rule"):
        function(Tensor(X))
    rule.__name__ = name
    declared = op("()->()")(rule)
    x = Tensor(X, requires_grad=True)
    function(x).backward(np.ones(X.shape))
    assert x.grad is not None
    assert np.all(x.grad.numpy() == 3)
    assert OPS[declared.address] is declared


@pytest.mark.usefixtures("restored_registry")
def test_a_function_of_linear_algebra_declared_later_is_found() -> None:
    def det(x: Real) -> VJP:
        return np.linalg.det(x), (lambda g: g[..., None, None] * x,)

    with pytest.raises(TypeError, match=r"np\.det has no rule"):
        np.linalg.det(Tensor(M))
    op(lambda _: Call(((2, 2),)))(det)
    assert np.linalg.det(Tensor(M, requires_grad=True)).requires_grad
