"""The check before timing: an op is judged as the properties judge it; a wrong result gets no time."""

from asv_bench.measuring.any_commit import load_judging
from asv_bench.workloads.calls import make_typical_call
from gradspec.backends import Backend
from gradspec.reference import Op


def require_right_result(backend: Backend, op: Op, size: str) -> None:
    """Judge the op's typical call at this size.

    Raises:
        WrongResult: where backend and spec disagree.
        SkipNotImplemented: at commits without this judge.
    """
    load_judging()
    from gradspec.timing import right_results

    case = right_results.make_case(op, make_typical_call(op, size), "float32")
    right_results.require_right_result(backend, case)
