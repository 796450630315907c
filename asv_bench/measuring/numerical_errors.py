"""The largest error of an op over a set of cases, in the units of the properties' own judge.

The judge measures what is allowed only as far as a verdict needs it. A series over time needs the same
measurement each time, so here the number of jittered copies is fixed, whatever the error.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from asv_bench.measuring.any_commit import SeededChoices, load_judging
from asv_bench.measuring.undisturbed_time import IS_QUICK_RUN
from asv_bench.workloads.calls import Array, make_arrays, make_cotangent
from gradspec.backends import Backend
from gradspec.reference import Op

if TYPE_CHECKING:
    from gradspec.properties.cases.case import Case
    from gradspec.properties.cases.evaluate import Result
    from gradspec.properties.judging.judge import Judge

# A third of 25 have an axis longer than ten, where errors of sums add up.
CASES_PER_OP = 2 if IS_QUICK_RUN else 25
AXIS_LENGTHS = (1, 2, 3, 5, 8, 16)
# With more, the noise grows by a few per cent and the time in proportion.
JITTERED_COPIES = 8


def measure_worst_error(backend: Backend, op: Op, dtype: str) -> float:
    """Return the largest error of value and gradients over all cases; 1 is what is allowed.

    Raises:
        Exception: what the backend raises. Where the op is known to deviate, such a case counts as 0 instead.
    """
    return max(_measure_case_error(backend, op, dtype, seed) for seed in range(CASES_PER_OP))


def make_case(op: Op, dtype: str, seed: int, choices: SeededChoices | None = None) -> "Case":
    """Return a case of the op, always the same one for the same seed.

    Args:
        op: the op.
        dtype: the dtype of its floats.
        seed: of the shapes, the keywords and the numbers.
        choices: what chooses the shapes and keywords instead.
    """
    judging = load_judging()
    call = op.draw_call(choices or SeededChoices(seed, AXIS_LENGTHS))
    value = np.asarray(op.rule(*make_arrays(op, call, np.float64, seed), **call.keywords)[0])
    inputs = tuple(make_arrays(op, call, judging.dtype_of(dtype), seed))
    cotangent = make_cotangent(value).astype(judging.dtype_of(dtype))
    case: Case = judging.Case(op, dtype, inputs, call.keywords, cotangent)
    return case


def _measure_case_error(backend: Backend, op: Op, dtype: str, seed: int) -> float:
    judging = load_judging()
    case = make_case(op, dtype, seed)
    try:
        result = judging.run_on_backend(backend, case)
    except Exception:
        if op.name in backend.known:
            return 0.0
        raise
    judge = judging.Judge(case)
    errors = [_measure_part_error(judge, result.value, lambda r: r.value)]
    for name, d in result.gradients.items():
        errors.append(_measure_part_error(judge, d, partial(_get_gradient, name)))
    return max(errors)


def _get_gradient(name: str, result: "Result") -> Array:
    gradient: Array = result.gradients[name]
    return gradient


def _measure_part_error(judge: "Judge", value: Array, part: "Callable[[Result], Array]") -> float:
    """Return the largest error in one part of a result, over elements whose allowed distance is finite."""
    judging = load_judging()
    exact = part(judge.exact)
    if exact.dtype.kind in "biu":
        return 0.0 if np.array_equal(value, exact) else float("inf")
    with np.errstate(all="ignore"):
        unit = judging.ulp(np.abs(exact), judging.dtype_of(judge.dtype))
        # Commits before usual formulas have the noise of one formula alone.
        measure_noise = getattr(judge, "measure_noise_of_any_formula", judge.measure_noise)
        allowed = judging.FACTOR * (measure_noise(part, JITTERED_COPIES) + unit)
        error: Any = np.abs(value.astype(exact.dtype) - exact) / allowed
    return float(np.max(error, where=np.isfinite(allowed), initial=0))
