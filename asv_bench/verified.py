"""No time without a right result: what is to be timed is first judged as the properties judge it."""

from asv_runner.benchmarks.mark import SkipNotImplemented

from asv_bench.calls import arrays, cotangent, typical
from gradspec.backends import Backend
from gradspec.reference import Op


class Wrong(Exception):
    """An op that is not timed, since its value or a gradient disagrees with the spec."""


def verify(backend: Backend, op: Op, size: str) -> None:
    """Judge the op's call at this size. Raises Wrong where backend and spec disagree; n/a at commits without this judge."""
    try:
        from gradspec.properties.case import Case, forward, outcome
        from gradspec.properties.judging.judge import Judge, combined
    except ImportError as error:
        raise SkipNotImplemented("the judge is not yet in its place at this commit") from error
    call = typical(op, size)
    inputs = arrays(op, call, "float32", seed=0)
    value = op.rule(*inputs, **call.keywords)[0]
    case = Case(op, "float32", tuple(inputs), call.keywords, cotangent(value))
    got, judge = outcome(backend, case), Judge(case)
    judgement = combined(
        [judge.value(got.value), judge.value(forward(backend, case)), judge.gradients(got.gradients)]
    )
    if judgement.verdict == "disagree":
        raise Wrong(f"{op.name} of {backend.name} is not timed: {judgement.reason}")
