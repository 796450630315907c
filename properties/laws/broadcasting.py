"""Is broadcasting the same as expanding the arguments first, and its pullback the sum over what was expanded?"""

import re
from dataclasses import replace

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.case import Case, differentiate
from gradspec.properties.judge import Judge, Judgement, combined, wider
from gradspec.reference.tape import Array


def broadcasting_equals_explicit_expansion(backend: Backend, case: Case) -> Judgement:
    """With every argument expanded first, the value is the same and the gradients are the ones to be summed."""
    judge = Judge(case)
    long = differentiate(backend, expanded(case))
    names = {case.op.argument(i): case.inputs[i] for i in case.differentiable}
    sums = {name: summed_to(x, long.gradients[name].astype(wider(case.dtype))) for name, x in names.items()}
    return combined([judge.value(long.value), judge.gradients(sums)])


def core_ranks(signature: str | None) -> list[int]:
    """How many core dimensions each argument of a gufunc signature has; empty for ops without one."""
    arguments = re.findall(r"\((.*?)\)", (signature or "").split("->")[0])
    return [len(dims.split(",")) if dims else 0 for dims in arguments]


def expanded(case: Case) -> Case:
    """The same case with every argument copied out to the full loop shape."""
    ranks = [min(x.ndim, core) for x, core in zip(case.inputs, core_ranks(case.op.signature), strict=True)]
    loop = np.broadcast_shapes(
        *(x.shape[: x.ndim - core] for x, core in zip(case.inputs, ranks, strict=True))
    )
    vectors = [x.ndim < most for x, most in zip(case.inputs, core_ranks(case.op.signature), strict=True)]
    inputs = tuple(
        x if vector else np.array(np.broadcast_to(x, loop + x.shape[x.ndim - core :]))
        for x, core, vector in zip(case.inputs, ranks, vectors, strict=True)
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
