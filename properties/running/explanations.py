"""What a failure looks like: two kinds of mistakes that tell little by their numbers alone.

Neither is certain, and both are said beside what was seen, never in its place.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.programs import INNER_GRADIENT, Program
from gradspec.properties.judging.judgement import Judgement
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.running.failure import Law, LawViolation

JudgeCase = Callable[[Law, Backend, Any], Judgement]

NEVER_WRITTEN = "looks like memory that was never written"
NO_SECOND_DERIVATIVES = (
    "if there are to be no second derivatives, pass `nests=False` (to `verify` or `with_ops`)"
)

MODERATE = 1e-4, 1e4
"""Between these sizes numbers are moderate: what should be one and is made of such alone is not subnormal."""

OTHER_FILL = 1.0
"""What new memory is filled with, in place of NaN, to see whether a NaN was never written."""

LARGEST_INTEGERS = frozenset(float(np.iinfo(dtype).max) for dtype in ("int16", "int32", "int64"))
"""What fills integers that nobody has written."""


def explain(failure: LawViolation, backend: Backend, judge: JudgeCase) -> list[str]:
    """Return what a failure looks like, a line each.

    Args:
        failure: The failure.
        backend: The backend that fails.
        judge: Applies a law to a case of a backend.
    """
    judgement, case, explanations = failure.judgement, failure.case, []
    in_other_memory = replace(backend, poisoned=partial(backend.poisoned, OTHER_FILL))
    if _is_subnormal_among_moderate(judgement, case) or (
        _may_be_poison(judgement, case) and _has_changed(judge(failure.law, in_other_memory, case), judgement)
    ):
        explanations.append(NEVER_WRITTEN)
    if "once_differentiable" in judgement.reason:
        explanations.append(
            f"the backward pass is marked with torch's @once_differentiable; {NO_SECOND_DERIVATIVES}"
        )
    elif _lacks_second_derivative(judgement, case) and (
        not isinstance(case, Case) or judge(every_gradient_agrees, backend, case).verdict != "disagree"
    ):
        explanations.append(
            "0 is what autograd gives if it cannot differentiate the backward pass, as with torch's "
            f"@once_differentiable; {NO_SECOND_DERIVATIVES}"
        )
    return explanations


def _is_subnormal_among_moderate(judgement: Judgement, case: Any) -> bool:
    """Return whether a result is a tiny number that moderate ones cannot have given."""
    wrong = judgement.wrong
    if wrong is None or not isinstance(case, Case):
        return False
    tiny = float(ml_dtypes.finfo(dtype_of(case.dtype)).tiny)
    sizes = [wrong.expected, *(float(v) for x in (*case.inputs, case.cotangent) for v in x.reshape(-1))]
    low, high = MODERATE
    return 0 < abs(wrong.got) < tiny and all(v == 0 or low <= abs(v) <= high for v in sizes)


def _may_be_poison(judgement: Judgement, case: Any) -> bool:
    """Return whether what should be a number, and is made of numbers, is NaN or what fills integers."""
    wrong = judgement.wrong
    if wrong is None or not math.isfinite(wrong.expected):
        return False
    arrays = (*case.inputs, case.cotangent) if isinstance(case, Case) else ()
    is_ordinary = all(np.all(np.isfinite(x.astype(np.float64))) for x in arrays)
    return is_ordinary and (math.isnan(wrong.got) or wrong.got in LARGEST_INTEGERS)


def _has_changed(now: Judgement, before: Judgement) -> bool:
    """Return whether a result is another one than before."""
    if now.wrong is None or before.wrong is None:
        return now.verdict != "disagree"
    got, got_before = now.wrong.got, before.wrong.got
    return got != got_before and not (math.isnan(got) and math.isnan(got_before))


def _lacks_second_derivative(judgement: Judgement, case: Any) -> bool:
    """Return whether a derivative of a gradient is zero that should be a moderate number."""
    wrong = judgement.wrong
    if wrong is None or wrong.got != 0 or not MODERATE[0] <= abs(wrong.expected) <= MODERATE[1]:
        return False
    in_program = isinstance(case, Program) and any(op == INNER_GRADIENT for op, _, _ in case.steps)
    return in_program or wrong.what.startswith("derivative by ")
