"""Is broadcasting the same as expanding the arguments first, and its pullback the sum over what was expanded?"""

from dataclasses import replace

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.case import Case, differentiate, wider
from gradspec.properties.judging.judge import Judge, Judgement, combined
from gradspec.reference.tape import Array


def broadcasting_equals_explicit_expansion(backend: Backend, case: Case) -> Judgement:
    """With every argument expanded first, the value is the same and the gradients are the ones to be summed."""
    judge = Judge(case)
    long = differentiate(backend, expanded(case))
    names = {case.op.argument(i): case.inputs[i] for i in case.differentiable}
    sums = {name: summed_to(x, long.gradients[name].astype(wider(case.dtype))) for name, x in names.items()}
    return combined([judge.value(long.value), judge.gradients(sums)])


def loops(case: Case) -> list[tuple[int, ...]]:
    """The loop dimensions of each argument: its shape without the core dimensions, which may be fewer than declared."""
    return [
        x.shape[: x.ndim - min(x.ndim, core)]
        for x, core in zip(case.inputs, case.op.core_ranks, strict=False)
    ]


def expanded(case: Case) -> Case:
    """The same case with every argument copied out to the full loop shape; a vector for a matrix has no loop."""
    full = np.broadcast_shapes(*loops(case))
    inputs = tuple(
        x if x.ndim < core else np.array(np.broadcast_to(x, full + x.shape[len(loop) :]))
        for x, core, loop in zip(case.inputs, case.op.core_ranks, loops(case), strict=False)
    )
    return replace(case, inputs=inputs)


def summed_to(x: Array, d: Array) -> Array:
    """The sum of d over the axes along which x was expanded, axis by axis, in the shape of x."""
    while d.ndim > x.ndim:
        d = d.sum(axis=0)
    for i, n in enumerate(x.shape):
        if n == 1 != d.shape[i]:
            d = d.sum(axis=i, keepdims=True)
    return d
