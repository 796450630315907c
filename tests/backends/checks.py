"""Checks of a backend against the spec; choices, keys and views that tests of several backends share."""

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ml_dtypes
import numpy as np

from gradspec.backends import Backend, call, load
from gradspec.reference import Op
from gradspec.reference.calls import Call, Choices
from gradspec.reference.domains import Booleans, Integers

T = TypeVar("T")
DTYPES = {name: np.dtype(name) for name in ("float64", "float32", "float16", "int64", "bool")}
DTYPES["bfloat16"] = np.dtype(ml_dtypes.bfloat16)

TOLERANCES = {"float64": 1e-10, "float32": 1e-4, "float16": 0.05, "bfloat16": 0.3}
"""By dtype, for results of about 1."""

GETITEM_KEYS: list[Any] = [
    (slice(None, None, -1),),
    (slice(3, 0, -2), slice(None, None, -1)),
    (..., slice(None, None, -3)),
    (None, slice(None), None, slice(1, None, -1)),
    (0, slice(None), np.array([1, -1, 1])),
    (slice(None, None, -1), np.array([0, 2]), slice(2, None, -1)),
    (slice(0, 3, -1), slice(None, None, -1)),
    (np.array([True, False, True, False]), slice(None, None, -1)),
    (np.zeros((4, 3), np.bool_), slice(None, None, -1)),
    np.array([3, 0]),
    np.array([], np.int64),
    np.array([False, True, True, False]),
    (np.int64(1), slice(None), np.array([1, 0])),
    (np.False_, slice(None, None, -1)),
    (True, slice(None, None, -1)),
    (None, slice(1, 3), np.array([2, 0]), ..., 1),
    (slice(1, 3), np.array(1), ..., np.array([1, 0, 1])),
    (np.array(1), slice(None), np.array([-1])),
    (np.array(1), slice(None), np.array(-1)),
    (np.array([[1], [2]]), slice(None), np.array([1, 0])),
    (np.array([3, 1, 0]), np.array([1, 0, 2]), ..., 0),
    (0, slice(None), np.array([False, True])),
    (np.zeros((4, 3), np.bool_), ..., np.array([1])),
    (),
    ...,
    -1,
]
"""Keys for an array of shape (4, 3, 2)."""

VIEWS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "ordered": lambda x: x,
    "fortran": np.asfortranarray,
    "transposed": lambda x: x.T,
    "offset": lambda x: x[1:, 1:],
    "strided": lambda x: x[::2, 1::3],
    "negative": lambda x: x[::-1, 1::-1],
    "expanded": lambda x: np.broadcast_to(x[:, None, :1], (4, 3, 6)),
    "0-d": lambda x: x[2, 3, ...],
    "empty": lambda x: x[2:2],
    "empty reversed": lambda x: x[2:2, ::-1],
    "overlapping": lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, axis=1),
    "fraction": lambda x: np.rec.fromarrays([x, x.astype(np.bool_)])["f0"],
}
"""By name: a view of an array of shape (4, 6), or a copy in another order."""


class ShortAxisChoices:
    """Choices by a seeded generator, with lengths 0 to 3."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def of(self, options: Sequence[T]) -> T:
        return self.random.choice(options)

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def size(self, taken: int) -> int:
        return self.random.randint(0, 3 if taken < 50 else 1)

    def rank(self, low: int, high: int) -> int:
        return self.integer(low, high)


def draw_array(op: Op, i: int, shape: Any, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return a random array from the domain of the op's i-th argument."""
    domain = op.domain(i)
    if isinstance(domain, Integers):
        return np.asarray(shape.pick(rng.integers(0, 2**16, shape.shape)))
    if isinstance(domain, Booleans):
        return np.asarray(rng.random(shape) < 0.5)
    x = rng.uniform(0.2, 2, shape)
    return np.asarray(x if domain.low == 0 else x * rng.choice([-0.4, 1], shape))


def compute_value_and_gradients(
    backend: Backend, op: Op, case: Call, arrays: list[np.ndarray[Any, Any]], g_seed: int
) -> list[Any]:
    """Return the value and the gradients of the op for a random cotangent, as NumPy arrays."""
    inputs = [backend.from_numpy(x) for x in arrays]
    differentiable = op.differentiable_arguments(len(inputs))
    if not differentiable:
        return [backend.to_numpy(call(op, backend.ops[op.name], inputs, case.keywords))]

    def fn(*xs: Any) -> Any:
        variables = dict(zip(differentiable, xs, strict=True))
        arguments = [variables.get(i, x) for i, x in enumerate(inputs)]
        return call(op, backend.ops[op.name], arguments, case.keywords)

    value, pullback = backend.vjp(fn, *(inputs[i] for i in differentiable))
    value = backend.to_numpy(value)
    g = np.asarray(np.random.default_rng(g_seed).normal(size=value.shape)).astype(value.dtype)
    return [value, *map(backend.to_numpy, pullback(backend.from_numpy(g)))]


def assert_agrees_with_spec(
    backend: Backend, op: Op, dtype: np.dtype[Any], choices: Choices, tolerance: float
) -> None:
    """Assert that the backend's value and gradients for a call are close to those of the spec in float64."""
    case = op.draw_call(choices)
    rng = np.random.default_rng(0)
    arrays = [draw_array(op, i, s, rng) for i, s in enumerate(case.shapes)]
    arrays = [x.astype(dtype) if x.dtype == np.float64 else x for x in arrays]
    exact = [x.astype(np.float64) if x.dtype == dtype else x for x in arrays]
    results = compute_value_and_gradients(backend, op, case, arrays, 1)
    references = compute_value_and_gradients(load("numpy"), op, case, exact, 1)
    for y, expected in zip(results, references, strict=True):
        assert y.dtype == dtype or not op.differentiable, f"{op.name}: {y.dtype} instead of {dtype}"
        assert y.shape == expected.shape, f"{op.name}: shape {y.shape} instead of {expected.shape}"
        np.testing.assert_allclose(y.astype(np.float64), expected, tolerance, tolerance)
