"""What a backend does not offer: a call that it declines is neither right nor wrong.

A backend that says what it declines (`Backend.declines`) is held to it, so that none declines its way through
a law unseen; what any other declines is counted and shown.
"""

from collections.abc import Sequence
from typing import Any

from gradspec.backends import Backend
from gradspec.backends.backend import get_declining_op
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.programs import INNER_STEPS, PICK, Program, Step
from gradspec.properties.judging.error_descriptions import describe_exception, get_message_line
from gradspec.properties.judging.judgement import Judgement

NO_REASON = "no reason is given"


def judge_declined(backend: Backend, case: Any, error: NotImplementedError) -> Judgement:
    """Return the judgement of a case that the backend declines: a disagreement if it does not say so.

    Args:
        backend: The backend.
        case: The case.
        error: What it raised.
    """
    op = get_declining_op(error)
    if backend.declines is None:
        reason = get_message_line(error) or NO_REASON
        is_of_several_ops = op and not isinstance(case, Case)
        return Judgement("declined", f"{op}: {reason}" if is_of_several_ops else reason, informative=False)
    names = {op} if op else _find_ops(case)
    for declared in backend.declared_declines:
        fits_dtype = not declared.dtypes or case.dtype in declared.dtypes
        if fits_dtype and (names is None or declared.op in names):
            return Judgement("declined", declared.reason, informative=False)
    undeclared = (
        f"declined a call that `declines` of {backend.name} does not name: it {describe_exception(error)}"
    )
    return Judgement("disagree", undeclared, raised=True)


def _find_ops(case: Any) -> set[str] | None:
    """Return the names of the ops that a case calls; None if it is of a kind that does not say so."""
    if isinstance(case, Case):
        return {case.op.address}
    return _list_op_names(case.steps) if isinstance(case, Program) else None


def _list_op_names(steps: Sequence[Step]) -> set[str]:
    """Return the names of the ops of steps, and of those of inner functions."""
    inner = [_list_op_names(keywords["steps"]) for op, _, keywords in steps if op in INNER_STEPS]
    return {op for op, _, _ in steps if op not in (*INNER_STEPS, PICK)}.union(*inner)
