"""The case of a call that is timed, and its verdict: a wrong result gets no time."""

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import forward, run_on_backend
from gradspec.properties.judging.judge import Judge, combine_judgements
from gradspec.reference import Op
from gradspec.reference.calls import Call
from gradspec.timing.calls import make_arrays, make_cotangent


class WrongResult(Exception):
    """An op that is not timed, since its value or a gradient disagrees with the spec."""


def make_case(op: Op, call: Call, dtype: str) -> Case:
    """Return a case of a call, always with the same numbers.

    Raises:
        ValueError: if the spec's value is not finite on them, which is another call than the one meant.
    """
    inputs = make_arrays(op, call, dtype_of(dtype), seed=0)
    with np.errstate(all="ignore"):
        value = np.asarray(op.rule(*inputs, **call.keywords)[0])
    return Case(op, dtype, tuple(inputs), call.keywords, make_cotangent(value))


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
        raise WrongResult(f"{case.op.name} of {backend.name} is not timed: {judgement.reason}")
