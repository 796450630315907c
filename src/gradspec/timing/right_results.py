"""The case of a call that is timed, and whether its results are right: what is wrong gets no time."""

from typing import Any

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import Result, forward, run_on_backend, run_spec
from gradspec.properties.judging.judge import Judge, combine_judgements
from gradspec.reference import Op
from gradspec.reference.calls import Call
from gradspec.timing.calls import Array, make_arrays, make_cotangent


class WrongResult(Exception):
    """An op that is not timed, since its value or a gradient disagrees with the spec."""


class NotFinite(Exception):
    """An op that is not timed, since the spec's results are infinite or NaN, or are so in the dtype."""


def make_case(op: Op, call: Call, dtype: str) -> Case:
    """Return a case of a call, always with the same numbers."""
    inputs = make_arrays(op, call, dtype_of(dtype), seed=0)
    with np.errstate(all="ignore"):
        value = np.asarray(op.rule(*(_widen(x) for x in inputs), **call.keywords)[0])
    cotangent = make_cotangent(value.astype(np.float64)).astype(dtype_of(dtype))
    return Case(op, dtype, tuple(inputs), call.keywords, cotangent)


def compute_exactly(case: Case) -> Result:
    """Return the spec's value and gradients in float64.

    Raises:
        NotFinite: for an infinity or NaN among them: what is slow or fast about it is another matter.
    """
    with np.errstate(all="ignore"):
        exact = run_spec(case.map_float_arrays(lambda x: x.astype(np.float64)))
    largest = float(ml_dtypes.finfo(dtype_of(case.dtype)).max)
    for what, x in _list_parts(exact):
        if not np.all(np.abs(x) <= largest):
            raise NotFinite(f"the {what} of the spec has elements that are not finite in {case.dtype}")
    return exact


def require_right_result(backend: Backend, case: Case) -> None:
    """Judge the value and the gradients of a case.

    Raises:
        WrongResult: where backend and spec disagree.
    """
    result, judge = run_on_backend(backend, case), Judge(case)
    judgement = combine_judgements(
        [
            judge.judge_value(result.value),
            judge.judge_value(forward(backend, case)),
            judge.judge_gradients(result.gradients),
        ]
    )
    if judgement.verdict == "disagree":
        raise WrongResult(judgement.reason)


def require_half_of_the_digits(backend: Backend, case: Case, exact: Result) -> None:
    """Check the value and the gradients of a large case, for which the judge would take minutes.

    An error in half of the digits, in the norm of a whole result, is far from any rounding of what the judge
    has called right in smaller cases. A kernel that goes wrong only from some size on, where a block or an
    index ends, leaves numbers unwritten: one row of 2,048 is an error of 2%, and 0.03% are allowed in
    float32.

    Raises:
        WrongResult: where less than half of the digits are right.
    """
    result = run_on_backend(backend, case)
    results = [("value", forward(backend, case)), *_list_parts(result)]
    expected = [("value", exact.value), *_list_parts(exact)]
    allowed = float(ml_dtypes.finfo(dtype_of(case.dtype)).eps) ** 0.5
    for (what, got), (_, x) in zip(results, expected, strict=True):
        error = _measure_error(got, x)
        if not error <= allowed:
            raise WrongResult(f"the {what} is off by {error:.2%} of its norm, allowed are {allowed:.2%}")


def _measure_error(got: Array, exact: Array) -> float:
    """Return the norm of the error over that of the exact result; infinity for another shape."""
    if got.shape != exact.shape:
        return np.inf
    if exact.dtype.kind in "biu":
        return float(np.count_nonzero(got != exact))
    error = float(np.linalg.norm(np.ravel(got.astype(exact.dtype) - exact)))
    return error / float(np.linalg.norm(np.ravel(exact))) if error else 0.0


def _list_parts(result: Result) -> list[tuple[str, Any]]:
    return [("value", result.value), *((f"gradient of {name}", d) for name, d in result.gradients.items())]


def _widen(x: Array) -> Array:
    """Return a 16-bit array in float32, in which the spec counts."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x
