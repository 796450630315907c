"""Whether CuPy's rules and kernels keep their digits where the usual formulas lose them.

Right is what mpmath gives, for derivatives as differences of values.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import mpmath
import numpy as np
import pytest

from gradspec.backends import Backend
from tests.backends.checks import DTYPES
from tests.backends.cupy.exact_examples import (
    ROW_FUNCTIONS,
    Exact,
    Example,
    Numbers,
    compute_exactly,
    compute_second_exactly,
)
from tests.backends.cupy.kernels_under_test import cupy_backends, launch, needs_compiler

pytestmark = [pytest.mark.rotating, needs_compiler]

FLOAT_DTYPES = ("float64", "float32", "float16", "bfloat16")
MAX_UNITS = 8
"""How far off a result may be, in units of the dtype that is computed in.

One unit is what the result changes if each input and the result itself are off by one in the last place.
A GPU's erfc is off by 4 (by NVIDIA's table), its exponential and quotient by 2, and every step rounds too.
"""


# Examples

PLACES: dict[str, Numbers] = {
    "expm1": (-40, -10, -3, -0.5, 0.5, 3),
    "tanh": (20, -20, 9, -9, 3, 0.5),
    "sigmoid": (10, -10, 40, -40, 3, 0.5),
    "silu": (100, 30, -30, 10, -10, 0.5),
    "softplus": (30, -30, 3, 0.5),
    "gelu": (-5, 5, -10, 10, -3, 0.5),
    "gelu tanh": (-5, 5, -10, 10, -3, 0.5),
}
ROWS: tuple[Numbers, ...] = (
    (0, -20, -20.5, -22),
    (0, -40, -40.5, -42),
    (-3, 17, -2.5, 1),
    (800, 760, 752, 768),
    (2, 2, -18, -20),
    (1.5, 1.25, 0.5, -0.5),
)
"""One element dominates, the first or another, two do, or none."""
ROW_COTANGENTS: tuple[Numbers, ...] = (
    (1.5, -0.75, 2.5, -0.625),
    (1, 0, 0, 0),
    (1.5, 1.5, 1.5, 1.5),
    (1024, 1.25 / 2**13, 1.75 / 2**13, 0.625 / 2**13),
)
"""The sum of the last is rounded in float32; without its first term little but that loss is left of it."""
EXAMPLES = [
    *(Example(name, places, tuple(1.5 - k for k in range(len(places)))) for name, places in PLACES.items()),
    *(Example(name, x, g) for name in ("softmax", "log_softmax") for x in ROWS for g in ROW_COTANGENTS),
    *(Example(f"cross_entropy {t}", x, (g,)) for t in (0, 1) for x in ROWS for g in (1, -0.75)),
    *(Example("logsumexp", x, (-0.75,)) for x in (*ROWS, (-18.0, 2**-10 - 2**-18, -40.0, -41.0))),
]


# Where the numbers lie: alone, or far apart among others that do not count


class Placing(NamedTuple):
    """How a row lies in an array, whose other elements are -inf, or 0 in a cotangent.

    shape, axis: of the array, and along which of its axes the rows are.
    at: where the elements of a row are.
    """

    shape: tuple[int, ...]
    axis: int
    at: tuple[int, ...]

    def spread(self, row: Sequence[float], fill: float, dtype: Any) -> Any:
        x = np.full(self.shape, fill, dtype)
        np.moveaxis(x, self.axis, -1)[..., list(self.at)] = row
        return x

    def gather(self, x: Any) -> Any:
        """Return what is in the places of rows: (rows, n)."""
        return np.moveaxis(x, self.axis, -1)[..., list(self.at)].reshape(-1, len(self.at))


PLACINGS = {
    "rows": Placing((3, 4), 1, (0, 1, 2, 3)),
    "rows of several warps": Placing((2, 300), 1, (3, 270, 299, 140)),
    "rows longer than a block holds": Placing((1, 4100), 1, (3, 270, 4099, 640)),
    "columns": Placing((1, 300, 17), 1, (299, 5, 70, 71)),
    "columns loaded at once": Placing((1, 9, 512), 1, (7, 0, 3, 8)),
}


def run(backend: Backend, example: Example, dtype: str, placing: Placing) -> tuple[Any, Any]:
    """Return what the backend gives for the value and the gradient: (copies, elements)."""
    op, _, variant = example.name.partition(" ")
    to_backend, number = backend.from_numpy, DTYPES[dtype]
    if example.name not in ROW_FUNCTIONS:
        keywords = {"approximate": variant} if variant else {}
        x, g = (to_backend(np.tile(np.asarray(a, number), (5, 1))) for a in (example.x, example.g))
        value, pull = backend.vjp(lambda x: backend.ops[op](x, **keywords), x)
        return backend.to_numpy(value), backend.to_numpy(pull(g)[0])
    x = to_backend(placing.spread(example.x, -np.inf, number))
    if op == "logsumexp":
        value, pull = backend.vjp(lambda x: backend.ops[op](x, axis=placing.axis), x)
        g = to_backend(np.full(value.shape, example.g[0], number))
        return backend.to_numpy(value).reshape(-1, 1), placing.gather(backend.to_numpy(pull(g)[0]))
    if op == "cross_entropy":
        losses = placing.shape[: placing.axis] + placing.shape[placing.axis + 1 :]
        target = to_backend(np.full(losses, placing.at[int(variant)]))
        reduction, shape = ("sum", ()) if example.g == (1,) else ("none", losses)
        g = to_backend(np.full(shape, example.g[0], number))
        value, pull = backend.vjp(lambda x: backend.ops[op](x, target, reduction=reduction), x)
        value = backend.to_numpy(value).reshape(-1, 1)
        # A sum of losses is for another test.
        return value if reduction == "none" else None, placing.gather(backend.to_numpy(pull(g)[0]))
    g = to_backend(placing.spread(example.g, 0, number))
    value, pull = backend.vjp(lambda x: backend.ops[op](x, axis=placing.axis), x)
    return placing.gather(backend.to_numpy(value)), placing.gather(backend.to_numpy(pull(g)[0]))


def find_lost_digits(
    backend: Backend,
    dtype: str,
    examples: Sequence[Example] = EXAMPLES,
    names: Sequence[str] = tuple(PLACINGS),
) -> Iterator[str]:
    """Yield a line for each result that is farther off than it may be."""
    for example in examples:
        for name in names if example.name in ROW_FUNCTIONS else names[:1]:
            results = run(backend, example, dtype, PLACINGS[name])
            for what, y, (exact, units) in zip(
                ("value", "dx"), results, compute_exactly(example), strict=True
            ):
                if y is None:
                    continue
                distances = measure_distance(y, exact, units, dtype)
                if not (np.isfinite(y).all() and np.all(distances <= MAX_UNITS)):
                    where = f"{what} of {example.name} at {example.x}, {example.g}, {name}"
                    yield f"{where}: {y[0]}, off by {distances}"


def measure_distance(y: Any, exact: Exact, units: Exact, dtype: str) -> Any:
    """Return how far off each element is, at the worst of all copies, in units of the dtype computed in.

    A result of 16 bits may be off by half a unit in its own last place, too; others by the smallest number.
    """
    wide = np.float64 if dtype == "float64" else np.float32
    info, narrow_info = np.finfo(wide), ml_dtypes.finfo(DTYPES[dtype])
    distances = []
    for copies, e, u in zip(np.moveaxis(y, -1, 0), exact, units, strict=True):
        rounding = float(info.smallest_subnormal)
        if wide != DTYPES[dtype]:
            exponent = max(mpmath.frexp(e)[1] - 1, int(narrow_info.minexp)) if e else int(narrow_info.minexp)
            rounding = 2.0 ** (exponent - narrow_info.nmant) / 2
        off = max(abs(mpmath.mpf(float(a)) - e) for a in np.unique(copies.astype(np.float64)))
        distances.append(float(max(off - rounding, 0) / (u * float(info.eps) or 1)))
    return np.array(distances)


# Tests


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("make_backend", [cupy_backends.gpu, cupy_backends.composed])
def test_no_digit_is_lost(make_backend: Any, dtype: str) -> None:
    assert list(find_lost_digits(make_backend(), dtype)) == []


SECOND_ORDER_EXAMPLES = [
    *(Example(name, (x,), (1.5,)) for name, places in PLACES.items() for x in places),
    *(Example(name, x, ROW_COTANGENTS[0]) for name in ("softmax", "log_softmax") for x in ROWS),
    *(Example("logsumexp", x, (-0.75,)) for x in ROWS),
]
SECOND_ORDER_DIRECTION = (-1.25, 0.75, 1.75, 0.5)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_digit_of_a_second_derivative_is_lost(dtype: str) -> None:
    """What is recorded is not computed by kernels: both backends have the same second derivatives."""
    backend: Backend = cupy_backends.gpu()
    far_off = []
    for example in SECOND_ORDER_EXAMPLES:
        op, _, variant = example.name.partition(" ")
        keywords: dict[str, Any] = {"approximate": variant} if variant else {}
        keywords |= {"axis": -1} if example.name in ROW_FUNCTIONS else {}

        def pull(x: Any, g: Any, op: str = op, keywords: Any = keywords) -> Any:
            return backend.vjp(lambda x: backend.ops[op](x, **keywords), x)[1](g)[0]

        g = np.reshape(example.g, () if op == "logsumexp" else -1)
        v = SECOND_ORDER_DIRECTION[: len(example.x)]
        x, g, along = (backend.from_numpy(np.asarray(a, dtype)) for a in (example.x, g, v))
        y = backend.to_numpy(backend.vjp(pull, x, g)[1](along)[0])
        distances = measure_distance(y[None], *compute_second_exactly(example, v), dtype)
        if not (np.isfinite(y).all() and np.all(distances <= MAX_UNITS)):
            far_off.append(f"{example}: {y}, off by {distances}")
    assert far_off == []


FORMULAS = {
    "y + 1": ("expm1", "g * exp(x));\nFUNCTION(log_", "g * (expm1(x) + 1));\nFUNCTION(log_"),
    "1 - y^2": ("tanh", "g * (4 * slope_of_sigmoid(2 * x))", "g * (1 - tanh(x) * tanh(x))"),
    "y (1 - y)": ("sigmoid", "g * slope_of_sigmoid(x)", "g * sigmoid_of(x) * (1 - sigmoid_of(x))"),
    "1 + x (1 - y)": ("silu", "x * slope_of_sigmoid(x)", "x * sigmoid_of(x) * (1 - sigmoid_of(x))"),
    "1 + erf": ("gelu", "erfc(x * (A)-SQRT_HALF) / 2", "(1 + erf(x * (A)SQRT_HALF)) / 2"),
    "1 + tanh": ("gelu tanh", "x * sigmoid_of(inner(x))", "x * (1 + tanh(inner(x) / 2)) / 2"),
    "1 + tanh in the gradient": (
        "gelu tanh", "(sigmoid_of(inner(x)) + ", "((1 + tanh(inner(x) / 2)) / 2 + ",
    ),
    "1 - tanh^2": (
        "gelu tanh", "A slope = slope_of_sigmoid(inner(x))",
        "A slope = (1 - tanh(inner(x) / 2) * tanh(inner(x) / 2)) / 4",
    ),
    "1 added and subtracted": (
        "softmax", "others = sums[0] + (sums[1] - 1);", "others = (sums[0] + sums[1]) - 1;",
    ),
    "1 added and subtracted in columns": (
        "softmax", "others[k] += tops[k] - 1;", "others[k] = (others[k] + tops[k]) - 1;",
    ),
    "1 added before the warps are": (
        "softmax", "    top[k] = finite_or_0(highest[k]);",
        "    top[k] = finite_or_0(highest[k]), others[k] += tops[k], tops[k] = 0;",
    ),
    "log of the sum": ("log_softmax", "log_sum = log1p(others)", "log_sum = log(1 + others)"),
    "log of the sum in columns": (
        "log_softmax", "1 / (1 + others[k]) : log1p(others[k])", "1 / (1 + others[k]) : log(1 + others[k])",
    ),
    "loss by the log of the sum": ("cross_entropy 0", "log1p(others) - (w", "log(1 + others) - (w"),
    "loss by the log of the sum in columns": (
        "cross_entropy 0", "log1p(others[k]) - (w", "log(1 + others[k]) - (w",
    ),
    "p - 1": ("cross_entropy 0", "-at_top.one_minus(c.e[i])", "c.e[i] - 1"),
    "p - 1 in columns": ("cross_entropy 0", "-at_top[k].one_minus(e)", "e - 1"),
    "1 - p": ("softmax", "others < 1 ? others * p : 1 - p", "1 - p"),
    "g - sum(p g)": ("softmax", "is_top ? sums.tops - g : sums.tops", "sums.tops - 0 * g"),
    "a sum of all p g": ("softmax", "WHAT == LOG_SOFTMAX || p == top.p", "WHAT == LOG_SOFTMAX"),
    "g - p sum(g)": ("log_softmax", "A own = is_top ? top.q * g : g", "A own = g"),
    "a sum of g that is rounded": ("log_softmax", "WHAT == SOFTMAX ? (A)0 :", "true ? (A)0 :"),
}  # fmt: skip
"""By name: an op, a text of its kernels, and what the text is in a formula that loses digits."""


def edit_source(before: str, after: str) -> dict[str, Any]:
    """Return the change to a backend that replaces a text in some kernel and makes quotients a GPU's."""
    assert any(before in launch.read_source(file) for file in launch.KERNELS_BY_FILE)
    exact = "inline float ratio(float x, float y) { return x / y; }"
    inexact = "inline float ratio(float x, float y) { return x / y * 1.0000002384185791f; }"  # 2 units
    assert exact in launch.read_source("elementwise")
    return {
        "launch.read_source": lambda file: (
            launch.read_source(file).replace(before, after).replace(exact, inexact)
        )
    }


def test_functions_as_inexact_as_those_of_a_gpu_lose_no_digits() -> None:
    assert list(find_lost_digits(cupy_backends.load_with_changes(edit_source("", "")), "float32")) == []


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_that_loses_digits_is_noticed(formula: str) -> None:
    name, before, after = FORMULAS[formula]
    backend = cupy_backends.load_with_changes(edit_source(before, after))
    examples = [example for example in EXAMPLES if example.name == name]
    assert next(find_lost_digits(backend, "float32", examples), None)
