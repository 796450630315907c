"""The cases that facts of an op are observed on: the same whenever, and by whomever, they are asked for."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import Result, run_spec
from gradspec.properties.cases.value_alphabets import alphabets
from gradspec.reference.calls import IntegerArrayBelow, SeededChoices
from gradspec.reference.domains import Booleans, Domain, Integers, Interval
from gradspec.reference.op import Op
from gradspec.reference.rule import Array, Rule

Fact = TypeVar("Fact")

SAMPLE_COUNT = 14
SAMPLE_AXIS_LENGTHS = (2, 3, 4, 1, 5)
SAMPLE_SCALES = (1.0, 8.0, 1 / 32, 1.0, 256.0)
"""What the numbers are multiplied by, case by case: some ops change their formula far from zero."""

MAX_PICK = 2**16
"""Below which the numbers are that pick the elements of an array of integers."""

MAX_RELATIVE_DIFFERENCE = 2.0**-30
"""Up to which two results of at least float64 are the same: what rounding does is far less."""


def observe_once(observe: Callable[[Op], Fact]) -> Callable[[Op], Fact]:
    """Make a function of an op remember what it found; an op with another rule is another one."""

    @cache
    def observe_rule(op: Op, rule: Rule) -> Fact:
        return observe(op)

    def recall(op: Op) -> Fact:
        return observe_rule(op, op.rule)

    recall.__doc__, recall.__name__ = observe.__doc__, observe.__name__
    return recall


@observe_once
def make_sample_cases(op: Op) -> tuple[Case, ...]:
    """Return the cases in float64 that facts of the op are observed on; each has elements."""
    seeds = iter(range(20 * SAMPLE_COUNT))
    samples = (make_sample_case(op, seed) for seed in seeds)
    found = []
    for case in samples:
        if case.cotangent.size and all(x.size for x in case.inputs):
            found.append(case)
        if len(found) == SAMPLE_COUNT:
            break
    return tuple(found)


def make_sample_case(op: Op, seed: int) -> Case:
    """Return one case in float64, with a call of its own; at times without an optional argument."""
    rng = np.random.default_rng([zlib.crc32(op.name.encode()), seed])
    call = op.draw_call(SeededChoices(seed, SAMPLE_AXIS_LENGTHS))
    if op.arguments[-1] in op.defaults and seed % 4 == 3:
        call = replace(call, shapes=call.shapes[:-1])
    inputs = tuple(_fill(op.domain(i), shape, seed, rng) for i, shape in enumerate(call.shapes))
    with np.errstate(all="ignore"):
        shape = np.shape(op.compute_value(*inputs, **call.keywords))
    return Case(op, "float64", inputs, call.keywords, rng.standard_normal(shape))


def _fill(domain: Domain, shape: Any, seed: int, rng: np.random.Generator) -> Array:
    """Return an array of one argument of a sample case."""
    if isinstance(shape, IntegerArrayBelow):
        return shape.pick(rng.integers(0, MAX_PICK, shape.shape))
    x = fill_at_random(domain, shape, rng)
    scaled = x * SAMPLE_SCALES[seed % len(SAMPLE_SCALES)] if isinstance(domain, Interval) else x
    return scaled if is_within(domain, scaled) else x


def fill_at_random(domain: Domain, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return an array of one domain: booleans, or numbers of float64 of which few are alike."""
    if isinstance(domain, Booleans):
        return rng.random(shape) < 0.5
    if isinstance(domain, Integers):
        return np.zeros(shape, np.int64)
    letters = max(alphabets(domain, "float64"), key=len)
    return letters[rng.integers(0, len(letters), shape)]


def is_within(domain: Domain, x: Array) -> bool:
    """Return whether all elements of an array lie in a domain."""
    if not isinstance(domain, Interval) or domain == Interval():
        return True
    with np.errstate(invalid="ignore"):
        return bool(np.all((x > domain.low) & (x < domain.high) & ~np.isin(x, domain.hole)))


def run_spec_quietly(case: Case) -> Result:
    """Return what `run_spec` returns, without NumPy's warnings."""
    with np.errstate(all="ignore"):
        return run_spec(case)


def are_same(x: Array, y: Array) -> bool:
    """Return whether two arrays are the same up to rounding: of their largest element, since sums cancel."""
    if x.shape != y.shape:
        return False
    if x.dtype.kind in "biu":
        return bool(np.array_equal(x, y))
    with np.errstate(all="ignore"):
        size = np.max(np.abs(np.where(np.isfinite(x), x, 0)), initial=0)
        close = np.abs(x - y) <= MAX_RELATIVE_DIFFERENCE * size
        return bool(np.all(close | (x == y) | (np.isnan(x) & np.isnan(y))))
