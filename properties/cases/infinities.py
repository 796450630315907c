"""Which infinities are ordinary inputs of an op, and which gradients ignore the numbers altogether?

Masks are made of infinities: what is not to count is -inf before a softmax, a logsumexp or a maximum, and in
a bias that is added to what goes into them. So -inf is as ordinary there as 1 is, whereas it makes a variance
or a product NaN. Neither is declared: both are observed in the spec, on a few calls of the op, once.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import Result, run_spec
from gradspec.properties.cases.filling import fill_cotangent
from gradspec.properties.cases.value_alphabets import alphabets
from gradspec.reference.calls import IntegerArrayBelow, SeededChoices
from gradspec.reference.domains import Booleans, Integers, Interval
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

OBSERVED_CALLS = 8
OBSERVED_LENGTHS = (2, 3)  # of axes: in a row of one, an infinity is never among others
INFINITIES = (-np.inf, np.inf)


def find_ordinary_infinities(op: Op, i: int) -> tuple[float, ...]:
    """Return the infinities that are ordinary inputs of the i-th argument of an op, -inf first.

    An infinity is one if the spec, given one among ordinary numbers, has finite gradients and no NaN in its
    value. What it does with an infinity that has no ordinary number beside it, as in a row of -inf
    throughout, plays no part.
    """
    return _observe_infinities(op, 0 if op.variadic else i)


def ignores_numbers(op: Op, i: int) -> bool:
    """Return whether the gradient of the i-th argument is the same whatever the numbers in all arguments.

    It is for sums, and for ops that only move numbers: the gradient depends on shapes, keywords, integers,
    booleans and the cotangent alone.
    """
    return _observe_gradient(op, 0 if op.variadic else i)


def find_lone_infinities(case: Case, infinities: tuple[Array, ...]) -> Array:
    """Return which elements of the value depend on infinities alone.

    Args:
        case: The case.
        infinities: For each input, where the infinities in question are.
    """
    others = (
        x if x.dtype.kind in "biu" else np.where(at, x, np.nan)
        for x, at in zip(case.inputs, infinities, strict=True)
    )
    lone: Array = ~np.isnan(compute_value(replace(case, inputs=tuple(others))))
    return lone


def compute_value(case: Case) -> Array:
    """Return the value that the spec gives, at the precision of the case's own arrays."""
    with np.errstate(all="ignore"):
        return np.asarray(case.op.compute_value(*case.inputs, **case.keywords))


def list_float_inputs(case: Case) -> list[int]:
    """Return the numbers of the inputs that are floats, and have elements."""
    return [i for i, x in enumerate(case.inputs) if isinstance(case.op.domain(i), Interval) and x.size]


def list_infinite_ends(case: Case, i: int) -> list[float]:
    """Return the infinities that the domain of the i-th input, of floats, has at its ends, -inf first."""
    domain = case.op.domain(i)
    assert isinstance(domain, Interval)
    return [end for end in INFINITIES if domain.low <= end <= domain.high]


@cache
def _observe_infinities(op: Op, i: int) -> tuple[float, ...]:
    if not isinstance(op.domain(i), Interval):
        return ()
    return tuple(infinity for infinity in INFINITIES if all(_observe_one_infinity(op, i, infinity)))


def _observe_one_infinity(op: Op, i: int, infinity: float) -> Iterator[bool]:
    """Yield for some calls whether the spec takes an infinity in the i-th argument as an ordinary number."""
    rng = np.random.default_rng(0)
    for case in _iterate_observed_cases(op, rng):
        if i < len(case.inputs) and (n := case.inputs[i].size):
            x = case.inputs[i].copy()
            x.flat[rng.integers(n)] = infinity
            case = case.with_input(i, x)
            outcome = _run_quietly(case)
            lone = find_lone_infinities(case, tuple(np.isinf(x) for x in case.inputs))
            is_defined = not np.any(np.isnan(outcome.value))
            yield bool(np.any(lone)) or (
                is_defined and all(np.all(np.isfinite(d)) for d in outcome.gradients.values())
            )


@cache
def _observe_gradient(op: Op, i: int) -> bool:
    if i not in op.differentiable_arguments(len(op.domains)):
        return False
    rng = np.random.default_rng(0)
    for case in _iterate_observed_cases(op, rng):
        if i < len(case.inputs):
            name = op.argument_name(i)
            others = (
                tuple(
                    _fill(op, k, x.shape, rng) if x.dtype.kind == "f" else x
                    for k, x in enumerate(case.inputs)
                ),
                tuple(np.full_like(x, np.nan) if x.dtype.kind == "f" else x for x in case.inputs),
            )
            gradient, *gradients = (
                _run_quietly(Case(op, case.dtype, inputs, case.keywords, case.cotangent)).gradients[name]
                for inputs in (case.inputs, *others)
            )
            if not all(np.array_equal(gradient, d) for d in gradients):
                return False
    return True


def _iterate_observed_cases(op: Op, rng: np.random.Generator) -> Iterator[Case]:
    """Yield cases of ordinary numbers in float64, always the same."""
    for seed in range(OBSERVED_CALLS):
        call = op.draw_call(SeededChoices(seed, OBSERVED_LENGTHS))
        inputs = tuple(_fill(op, i, shape, rng) for i, shape in enumerate(call.shapes))
        with np.errstate(all="ignore"):
            value = np.asarray(op.compute_value(*inputs, **call.keywords))
        cotangent = fill_cotangent("float64", value.shape, rng.integers(0, 256, 64, np.uint8))
        yield Case(op, "float64", inputs, call.keywords, cotangent)


def _fill(op: Op, i: int, shape: tuple[int, ...] | IntegerArrayBelow, rng: np.random.Generator) -> Array:
    """Return an array of ordinary numbers for the i-th argument, few of them equal."""
    domain = op.domain(i)
    if isinstance(shape, IntegerArrayBelow):
        return shape.pick(rng.integers(0, 256, shape.shape))
    if isinstance(domain, Integers):
        return np.zeros(shape, np.int64)
    if isinstance(domain, Booleans):
        return rng.random(shape) < 0.5
    return rng.choice(max(alphabets(domain, "float64"), key=len), shape)


def _run_quietly(case: Case) -> Result:
    with np.errstate(all="ignore"):
        return run_spec(case)
