"""An op that somebody adds is tried as hard as those of gradspec: faults of ops declared here are all found.

Nothing is registered but the op itself. Each fault is one that a list of names would have to know of: rows
past a block of threads, numbers that are lost far from zero, sums in 16 bits.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import pytest

from gradspec.backends.addresses import OpTable
from gradspec.properties.cases.rare import keywords_at_their_ends
from gradspec.properties.cases.rare_kinds import MANY_ELEMENTS_KINDS, RARE_KINDS, iterate_rare_cases
from gradspec.reference import op
from gradspec.reference.axes import normalize_axes
from gradspec.reference.calls import Call, Choices, draw_along_axis, draw_nonempty_reduction, draw_shape
from gradspec.reference.domains import Real
from gradspec.reference.rule import VJP
from tests.faults import drawn_cases, planted_backends
from tests.faults.detection import detect_fault
from tests.faults.fault import (
    BATCHES_PROPERTY,
    GRADIENT_PROPERTY,
    SYMMETRIES_PROPERTY,
    VALUE_PROPERTY,
    Fault,
    unbroadcast_like,
)

SEEDS = (1, 2, 3, 4, 5)
THREADS_PER_BLOCK = 1024

Array = Any


# The ops, as their authors declare them


def _draw_rms_norm(choose: Choices) -> Call:
    weight = tuple(n or 1 for n in draw_shape(choose, 1, 2))
    batch = draw_shape(choose, high=3 - len(weight), other_lengths=weight)
    return Call((batch + weight, weight), {"eps": choose.of([1e-6, 1e-2])})


def rms_norm(x: Real, weight: Real, *, eps: float = 1e-6) -> VJP:
    axes = tuple(range(-weight.ndim, 0))
    rrms = 1 / np.sqrt(np.mean(x * x, axis=axes, keepdims=True) + eps)
    xhat = x * rrms

    def pull_x(g: Array) -> Array:
        gx = g * weight
        return rrms * (gx - xhat * np.mean(gx * xhat, axis=axes, keepdims=True))

    return xhat * weight, (pull_x, lambda g: g * xhat)


def rms_norm_of_rows(x: Real, weight: Real, *, eps: float = 1e-6) -> VJP:
    n = max(x.shape[-1], 1)
    rrms = 1 / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) / n + eps)
    xhat = x * rrms

    def pull_x(g: Array) -> Array:
        gx = g * weight
        return rrms * (gx - xhat * (np.sum(gx * xhat, axis=-1, keepdims=True) / n))

    return xhat * weight, (pull_x, lambda g: g * xhat)


def softmin(x: Real, *, axis: int = -1) -> VJP:
    e = np.exp(np.min(x, axis=axis, keepdims=True) - x)
    y = e / np.sum(e, axis=axis, keepdims=True)
    return y, (lambda g: y * (np.sum(g * y, axis=axis, keepdims=True) - g),)


def mean_square(x: Real, *, axis: Any = None, keepdims: bool = False) -> VJP:
    y = np.mean(x * x, axis=axis, keepdims=True)
    n = x.size // y.size if y.size else 1
    shape = np.mean(x, axis=axis, keepdims=keepdims).shape

    def pull(g: Array) -> Array:
        return np.reshape(g, y.shape) * x * 2 / n

    return np.reshape(y, shape), (pull,)


DECLARATIONS: dict[str, Callable[[], Any]] = {
    "rms_norm": lambda: op(_draw_rms_norm)(rms_norm),
    "rms_norm of rows": lambda: op("(n),(n)->(n)", eps=(1e-6, 1e-2))(rms_norm_of_rows),
    "softmin": lambda: op(draw_along_axis)(softmin),
    "mean_square": lambda: op(draw_nonempty_reduction)(mean_square),
}


@pytest.fixture
def declared(request: pytest.FixtureRequest, restored_registry: None) -> Iterator[Any]:
    """Declare the op that the test is parametrized with."""
    spec = planted_backends.SPEC_BACKEND
    new_op = DECLARATIONS[request.param]()
    with mock.patch.dict(vars(spec), ops=OpTable({**spec.ops, new_op: new_op}, "spec")):
        yield new_op
    drawn_cases.clear_cache()


# The faults, as somebody's kernel has them


def sums_the_first_rows_alone(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    y, (pull_x, pull_weight) = rms_norm(x, weight, eps=eps)  # type: ignore[misc]

    def pull_first_rows(g: Array) -> Array:
        d = pull_weight(g).reshape(-1, weight.size)[:THREADS_PER_BLOCK]  # type: ignore[misc]
        return unbroadcast_like(d.reshape(-1, *weight.shape), weight)

    return y, (pull_x, pull_first_rows)


def sums_the_first_of_many_rows_alone(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    y, (pull_x, pull_weight) = rms_norm_of_rows(x, weight, eps=eps)  # type: ignore[misc]

    def pull_first_rows(g: Array) -> Array:
        d = pull_weight(g)  # type: ignore[misc]
        if weight.ndim > 1 or weight.shape != g.shape[-1:]:
            return d
        return np.sum(d.reshape(-1, weight.size)[:THREADS_PER_BLOCK], axis=0)

    return y, (pull_x, pull_first_rows)


def one_block_of_threads_takes_part(x: Array, *, axis: int = -1) -> VJP:
    y, (pull,) = softmin(x, axis=axis)  # type: ignore[misc]
    reached = (np.arange(x.size) < THREADS_PER_BLOCK).reshape(x.shape)
    return y, (lambda g: np.where(reached, pull(g), 0),)  # type: ignore[misc]


def rounds_what_is_far_from_zero(x: Array, *, axis: int = -1) -> VJP:
    return softmin(np.where(np.abs(x) > 900, np.round(x), x).astype(x.dtype), axis=axis)


def adds_up_blocks_in_its_own_dtype(x: Array, *, axis: Any = None, keepdims: bool = False) -> VJP:
    """Each block of 32 is right; what they add up to is cut off, as some matrix units do."""
    y, pullbacks = mean_square(x, axis=axis, keepdims=keepdims)
    axes = normalize_axes(axis, x.ndim)
    n = x.size // max(y.size, 1)
    rows = np.moveaxis(x, axes, range(len(axes))).reshape(n, y.size)
    total = np.zeros(y.size, x.dtype)
    for start in range(0, n, 32):
        wide = total + np.sum(np.square(rows[start : start + 32], dtype=np.float32) / n, axis=0)
        total = wide.astype(x.dtype)
        total = np.where((total > wide) & np.isfinite(total), np.nextafter(total, x.dtype.type(0)), total)
    return total.reshape(y.shape), pullbacks


def make_fault(name: str, rule: Any, likely: str, dtypes: frozenset[str]) -> Fault:
    return Fault(name, "own", rule.__name__, partial(planted_backends.plant_rule, name, rule, dtypes), likely)


WIDE, NARROW = frozenset({"float64", "float32"}), frozenset({"float16"})
FAULTS: list[tuple[str, Any, str, frozenset[str]]] = [
    ("rms_norm", sums_the_first_rows_alone, BATCHES_PROPERTY, WIDE),
    ("rms_norm of rows", sums_the_first_of_many_rows_alone, BATCHES_PROPERTY, WIDE),
    ("softmin", one_block_of_threads_takes_part, BATCHES_PROPERTY, WIDE),
    ("softmin", rounds_what_is_far_from_zero, SYMMETRIES_PROPERTY, WIDE),
    ("mean_square", adds_up_blocks_in_its_own_dtype, VALUE_PROPERTY, NARROW),
]


@pytest.mark.parametrize(("declared", "rule", "likely", "dtypes"), FAULTS, indirect=["declared"])
def test_a_fault_of_a_new_op_is_found_with_every_seed(
    declared: Any, rule: Any, likely: str, dtypes: frozenset[str]
) -> None:
    fault = make_fault(declared.address, rule, likely, dtypes)
    assert [seed for seed in SEEDS if detect_fault(fault, seed) is None] == []


@pytest.mark.parametrize("declared", DECLARATIONS, indirect=True)
def test_a_right_rule_of_a_new_op_passes(declared: Any) -> None:
    fault = replace(make_fault(declared.address, declared.rule, GRADIENT_PROPERTY, WIDE), name="none")
    assert detect_fault(fault, 1) is None


def sum_of_four(x: Real, y: Real, z: Real, w: Real) -> VJP:
    return x + y + z + w, (lambda g: g, lambda g: g, lambda g: g, lambda g: g)


def scaled(x: Real, *, eps: float = 1.0, value: str = "one", key: str = "all", subscripts: str = "") -> VJP:
    """Its keywords have names of other ops', and other meanings."""
    if eps <= 0 or value != "one" or key != "all" or subscripts:
        raise ValueError(f"scaled takes none of {eps}, {value}, {key}, {subscripts}")
    return x * eps, (lambda g: g * eps,)


@pytest.mark.usefixtures("restored_registry")
@pytest.mark.parametrize(
    "declare",
    [
        lambda: op("(),(),(),()->()")(sum_of_four),
        lambda: op("()->()", eps=[1.0], value=["one"], key=["all"], subscripts=[""])(scaled),
        lambda: op("(m?)->(m?)", eps=[1.0], value=["one"], key=["all"], subscripts=[""])(scaled),
    ],
    ids=["four arrays", "keywords of an elementwise op", "keywords"],
)
def test_rare_cases_of_a_new_op_are_calls_that_it_accepts(declare: Any) -> None:
    new = declare()
    kinds = (*RARE_KINDS, *MANY_ELEMENTS_KINDS, keywords_at_their_ends)
    cases = [case for kind in kinds for case in iterate_rare_cases([new], kind, ["float64", "float16"])]
    assert cases
    for case in cases:
        new.rule(*case.inputs, **case.keywords)
