"""Which ops only move elements, and compute nothing."""

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.observed.sample_cases import make_sample_cases, observe_once, run_spec_quietly
from gradspec.reference.op import Op
from gradspec.reference.rule import Array


@observe_once
def moves_elements(op: Op) -> bool:
    """Return whether each element of the value is one of the arguments, from a place no number decides."""
    return op.differentiable and all(_moves_elements_of(case) for case in make_sample_cases(op))


def _moves_elements_of(case: Case) -> bool:
    """Return whether on one case the value has the numbers of the arguments, wherever those were numbered."""
    if any(x.dtype.kind in "biu" for x in case.inputs):
        return False  # what an array of integers or booleans decides is no mere movement
    numbered, start = [], 1
    for x in case.inputs:
        numbered.append(np.arange(start, start + x.size, dtype=np.float64).reshape(x.shape))
        start += x.size
    places = run_spec_quietly(_with_inputs(case, numbered)).value
    shuffled = [_shuffle(x) for x in numbered]
    value = run_spec_quietly(_with_inputs(case, shuffled)).value
    flat = np.concatenate([np.zeros(1), *(x.ravel() for x in shuffled)])
    is_place = (places >= 1) & (places < start) & (places == np.round(places))
    return bool(np.all(is_place)) and np.array_equal(value, flat[places.astype(np.int64)])


def _shuffle(x: Array) -> Array:
    """Return the numbers in an order that is none of the usual ones, some negative, large or small."""
    order = np.random.default_rng(x.size).permutation(x.size)
    return (x.ravel()[order] * np.array([-1.5, 1, 2.0**30, -(2.0**-30)])[order % 4]).reshape(x.shape)


def _with_inputs(case: Case, inputs: list[Array]) -> Case:
    for i, x in enumerate(inputs):
        case = case.with_input(i, x)
    return case
