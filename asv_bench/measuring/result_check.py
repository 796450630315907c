"""The check before timing: an op is judged as the properties judge it; a wrong result gets no time."""

from asv_bench.measuring.any_commit import load_judging
from asv_bench.workloads.calls import make_arrays, make_cotangent, make_typical_call
from gradspec.backends import Backend
from gradspec.reference import Op


class WrongResult(Exception):
    """An op that is not timed, since its value or a gradient disagrees with the spec."""


def require_right_result(backend: Backend, op: Op, size: str) -> None:
    """Judge the op's typical call at this size.

    Raises:
        WrongResult: where backend and spec disagree.
        SkipNotImplemented: at commits without this judge.
    """
    judging = load_judging()
    call = make_typical_call(op, size)
    inputs = make_arrays(op, call, "float32", seed=0)
    value = op.rule(*inputs, **call.keywords)[0]
    case = judging.Case(op, "float32", tuple(inputs), call.keywords, make_cotangent(value))
    result, judge = judging.run_on_backend(backend, case), judging.Judge(case)
    judgement = judging.combine_judgements(
        [
            judge.judge_value(result.value),
            judge.judge_value(judging.forward(backend, case)),
            judge.judge_gradients(result.gradients),
        ]
    )
    if judgement.verdict == "disagree":
        raise WrongResult(f"{op.name} of {backend.name} is not timed: {judgement.reason}")
