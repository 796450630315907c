"""The largest error of an op over a set of cases, in the units of the properties' own judge.

The judge measures what is allowed only as far as a verdict needs it; a series over time needs it measured alike each
time: with so many jittered copies, whatever the error.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from asv_bench.calls import Array, arrays, cotangent
from asv_bench.clock import QUICK
from gradspec.backends import Backend
from gradspec.reference import Op
from gradspec.reference.cases import Seeded

if TYPE_CHECKING:
    from gradspec.properties.case import Case, Result
    from gradspec.properties.judging.judge import Judge

CASES = 2 if QUICK else 25  # of so many, a third have a side of more than ten, where errors of sums add up
LENGTHS = (1, 2, 3, 5, 8, 16)
COPIES = 8  # jittered: with more the noise grows by a few per cent, and the time in proportion


def worst_error(backend: Backend, op: Op, dtype: str) -> float:
    """The largest error of value and gradients over all cases; 1 is what is allowed.

    Raises what the backend raises, but for an op that is known to deviate, whose other cases count. ImportError at commits
    without this judge.
    """
    return max(_error(backend, op, dtype, seed) for seed in range(CASES))


def case_of(op: Op, dtype: str, seed: int, choose: Seeded | None = None) -> "Case":
    """A case of the op: always the same one for the same seed. choose: what chooses its shapes and keywords instead."""
    from gradspec.properties.case import Case, dtype_of

    call = op.cases(choose or Seeded(seed, LENGTHS))
    value = np.asarray(op.rule(*arrays(op, call, np.float64, seed), **call.keywords)[0])
    inputs = tuple(arrays(op, call, dtype_of(dtype), seed))
    return Case(op, dtype, inputs, call.keywords, cotangent(value).astype(dtype_of(dtype)))


def _error(backend: Backend, op: Op, dtype: str, seed: int) -> float:
    from gradspec.properties.case import outcome
    from gradspec.properties.judging.judge import Judge

    case = case_of(op, dtype, seed)
    try:
        got = outcome(backend, case)
    except Exception:
        if op.name in backend.known:
            return 0.0
        raise
    judge = Judge(case)
    parts = [_in_units(judge, got.value, lambda r: r.value)]
    for name, d in got.gradients.items():
        parts.append(_in_units(judge, d, partial(_gradient, name)))
    return max(parts)


def _gradient(name: str, result: "Result") -> Array:
    found: Array = result.gradients[name]
    return found


def _in_units(judge: "Judge", got: Array, part: "Callable[[Result], Array]") -> float:
    """The largest error in one part of a result, where it is finite at this precision."""
    from gradspec.properties.case import dtype_of
    from gradspec.properties.judging.judge import FACTOR, ulp

    exact = part(judge.exact)
    if exact.dtype.kind in "biu":
        return 0.0 if np.array_equal(got, exact) else float("inf")
    with np.errstate(all="ignore"):
        allowed = FACTOR * (judge.noise(part, COPIES) + ulp(np.abs(exact), dtype_of(judge.dtype)))
        error: Any = np.abs(got.astype(exact.dtype) - exact) / allowed
    return float(np.max(error, where=np.isfinite(allowed), initial=0))
