"""What the spec shows of an op on many calls: which general faults change it at all.

So a fault is planted in an op for what it does, and not for its name.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.observed.sample_cases import (
    are_same,
    fill_at_random,
    make_sample_case,
    observe_once,
    run_spec_quietly,
)
from gradspec.reference import Op
from gradspec.reference.domains import Interval
from tests.faults.fault import Array

SAMPLE_CALLS = 60
MIN_SHARE_OF_CALLS = 0.02
"""Of how many calls a fact must hold, for the properties to draw such a call."""


@observe_once
def make_sample_calls(op: Op) -> tuple[Case, ...]:
    """Return many calls of the op, more than its facts are observed on: some fault needs a rare one."""
    return tuple(make_sample_case(op, seed) for seed in range(SAMPLE_CALLS))


def holds_of_some_calls(
    holds: Callable[[Case], bool], min_share: float = MIN_SHARE_OF_CALLS
) -> Callable[[Op], bool]:
    """Make a predicate of ops of one of cases: whether it holds of some of the op's calls."""

    @observe_once
    def holds_of_op(op: Op) -> bool:
        calls = make_sample_calls(op)
        return sum(map(holds, calls)) >= min_share * len(calls)

    holds_of_op.__doc__ = holds.__doc__
    return holds_of_op


@holds_of_some_calls
def may_take_scalars(case: Case) -> bool:
    """Whether an argument that has a gradient has no dimensions."""
    return any(isinstance(case.op.domain(i), Interval) and not x.ndim for i, x in enumerate(case.inputs))


@holds_of_some_calls
def may_give_scalars(case: Case) -> bool:
    """Whether the value has no dimensions."""
    return not case.cotangent.ndim


@holds_of_some_calls
def takes_axis_tuples(case: Case) -> bool:
    """Whether the op is given a tuple of axes."""
    return any(isinstance(case.keywords.get(name), tuple) for name in ("axis", "axes"))


def _list_unsummed_gradients(case: Case) -> list[tuple[Array, Array]]:
    """Return the arguments with a gradient, each with its gradient before the engine sums it."""
    with np.errstate(all="ignore"):
        _, pullbacks = case.op.rule(*case.inputs, **case.keywords)
        if pullbacks is None:
            return []
        g = case.cotangent
        gradients = pullbacks(g) if callable(pullbacks) else [p and p(g) for p in pullbacks]
    return [(x, d) for x, d in zip(case.inputs, gradients, strict=False) if d is not None]


@holds_of_some_calls
def may_broadcast(case: Case) -> bool:
    """Whether the engine sums a gradient to the shape of a smaller argument."""
    return any(d.shape != x.shape for x, d in _list_unsummed_gradients(case))


@holds_of_some_calls
def may_stretch(case: Case) -> bool:
    """Whether an argument has length 1 where its gradient, before the engine sums it, is longer."""
    return any(
        n == 1 != d.shape[d.ndim - x.ndim + i]
        for x, d in _list_unsummed_gradients(case)
        for i, n in enumerate(x.shape)
    )


def _returns_the_cotangent(case: Case) -> bool:
    """Whether a gradient is the cotangent, element by element."""
    g = case.cotangent
    return g.size > 1 and any(
        d.shape == g.shape == x.shape and np.array_equal(d, g) for x, d in _list_unsummed_gradients(case)
    )


MIN_SHARE_OF_SHARED_COTANGENTS = 0.1
"""Where it happens less often, as where all of an array is positive in relu, nobody writes it on purpose."""

may_return_the_cotangent = holds_of_some_calls(_returns_the_cotangent, MIN_SHARE_OF_SHARED_COTANGENTS)


def _changes_gradient(kinds: str, case: Case) -> bool:
    """Whether a gradient is another once the inputs of these kinds of dtype have other elements."""
    rng = np.random.default_rng(0)
    other = case
    for i, x in enumerate(case.inputs):
        if x.dtype.kind in kinds:
            new = rng.permutation(x.ravel()).reshape(x.shape) if x.dtype.kind in "iu" else None
            other = other.with_input(
                i, fill_at_random(case.op.domain(i), x.shape, rng) if new is None else new
            )
    before, after = run_spec_quietly(case), run_spec_quietly(other)
    return not all(are_same(d, after.gradients[name]) for name, d in before.gradients.items())


saves_arrays = holds_of_some_calls(partial(_changes_gradient, "fbiu"))
needs_its_inputs = holds_of_some_calls(partial(_changes_gradient, "f"))


@holds_of_some_calls
def has_different_gradients(case: Case) -> bool:
    """Whether two arguments of the same shape have gradients that differ."""
    gradients = [d for _, d in _list_unsummed_gradients(case)]
    return any(d.shape == gradients[0].shape and not are_same(d, gradients[0]) for d in gradients[1:])


@observe_once
def may_be_infinite(op: Op) -> bool:
    """Whether the value is infinite for some numbers: infinite, or the largest there are, or zero."""
    if not op.differentiable:
        return False
    for case in make_sample_calls(op)[:20]:
        for i in case.differentiable_inputs:
            for number in (np.inf, -np.inf, np.finfo(np.float64).max, 0.0):
                mask = np.arange(case.inputs[i].size).reshape(case.inputs[i].shape) % 2 == 0
                value = run_spec_quietly(case.with_input(i, np.where(mask, number, case.inputs[i]))).value
                if value.dtype.kind == "f" and np.any(np.isinf(value)):
                    return True
    return False
