"""Values of functions and their derivatives by mpmath, with so many digits that no formula matters."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import mpmath

Numbers = tuple[float, ...]
Exact = list[Any]  # of mpmath's numbers

DIGITS, STEP = 150, mpmath.mpf(10) ** -40
"""Differences of this step have 70 digits left."""


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _gelu_tanh(x: Any) -> Any:
    return x * _sigmoid(2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))


UNARY_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "expm1": mpmath.expm1,
    "tanh": mpmath.tanh,
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu tanh": _gelu_tanh,
}


def _log_softmax(x: Exact) -> Exact:
    total = mpmath.log(mpmath.fsum(map(mpmath.exp, x)))
    return [a - total for a in x]


ROW_FUNCTIONS: dict[str, Callable[[Exact], Exact]] = {
    "softmax": lambda x: list(map(mpmath.exp, _log_softmax(x))),
    "log_softmax": _log_softmax,
    "logsumexp": lambda x: [mpmath.log(mpmath.fsum(map(mpmath.exp, x)))],
    "cross_entropy 0": lambda x: [-_log_softmax(x)[0]],
    "cross_entropy 1": lambda x: [-_log_softmax(x)[1]],
}
"""By op: its function of one row. That of cross_entropy has its target beside it."""


class Example(NamedTuple):
    """A function at some place: the op with its variant or target, the input and the cotangent."""

    name: str
    x: Numbers
    g: Numbers

    def value(self, x: Exact) -> Exact:
        row = ROW_FUNCTIONS.get(self.name)
        return row(x) if row else list(map(UNARY_FUNCTIONS[self.name], x))

    def gradient(self, inputs: Exact) -> Exact:
        """Return the gradient of x, where the inputs are x and the cotangent one after the other."""
        n = len(self.x)
        return [
            mpmath.fdot(inputs[n:], derivative)
            for derivative in (differentiate(self.value, inputs[:n], i) for i in range(n))
        ]

    def second_derivative(self, inputs: Exact) -> Exact:
        """Return the derivative by x of <gradient, v>, where the inputs are x, the cotangent and v."""
        first, v = inputs[: -len(self.x)], inputs[-len(self.x) :]
        return [mpmath.fdot(v, differentiate(self.gradient, first, i)) for i in range(len(self.x))]


def differentiate(f: Callable[[Exact], Exact], x: Exact, i: int) -> Exact:
    """Return the derivative of each element of f by the i-th of x."""
    high, low = (f([a + step * (k == i) for k, a in enumerate(x)]) for step in (STEP, -STEP))
    return [(a - b) / (2 * STEP) for a, b in zip(high, low, strict=True)]


@cache
def compute_exactly(example: Example) -> tuple[tuple[Exact, Exact], ...]:
    """Return the value and the gradient, each with the size of a unit.

    That is the size of the element and how much it changes, at the most, if every input changes by its own.
    """
    with mpmath.workdps(DIGITS):
        x, g = ([mpmath.mpf(a) for a in numbers] for numbers in (example.x, example.g))
        return tuple(
            (f(inputs), measure_units(f, inputs))
            for f, inputs in ((example.value, x), (example.gradient, x + g))
        )


@cache
def compute_second_exactly(example: Example, v: Numbers) -> tuple[Exact, Exact]:
    """Return the second derivative along v, with the size of a unit."""
    with mpmath.workdps(DIGITS):
        inputs = [mpmath.mpf(a) for a in (*example.x, *example.g, *v)]
        return example.second_derivative(inputs), measure_units(example.second_derivative, inputs)


def measure_units(f: Callable[[Exact], Exact], inputs: Exact) -> Exact:
    units = [abs(y) for y in f(inputs)]
    for i, a in enumerate(inputs):
        units = [u + abs(a * d) for u, d in zip(units, differentiate(f, inputs, i), strict=True)]
    return units
