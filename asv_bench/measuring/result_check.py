"""No time without a right result: what is to be timed is first judged as the properties judge it."""

from asv_bench.measuring.any_commit import load_judging
from asv_bench.workloads.calls import make_arrays, make_cotangent, make_typical_call
from gradspec.backends import Backend
from gradspec.reference import Op


class WrongResult(Exception):
    """An op that is not timed, since its value or a gradient disagrees with the spec."""


def require_right_result(backend: Backend, op: Op, size: str) -> None:
    """Judge the op's call at this size. Raises WrongResult where backend and spec disagree; n/a at commits without this judge."""
    judging = load_judging()
    call = make_typical_call(op, size)
    inputs = make_arrays(op, call, "float32", seed=0)
    value = op.rule(*inputs, **call.keywords)[0]
    case = judging.Case(op, "float32", tuple(inputs), call.keywords, make_cotangent(value))
    got, judge = judging.run_on_backend(backend, case), judging.Judge(case)
    judgement = judging.combine_judgements(
        [
            judge.judge_value(got.value),
            judge.judge_value(judging.forward(backend, case)),
            judge.judge_gradients(got.gradients),
        ]
    )
    if judgement.verdict == "disagree":
        raise WrongResult(f"{op.name} of {backend.name} is not timed: {judgement.reason}")
