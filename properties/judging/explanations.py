"""What a failure looks like: two kinds of mistakes that tell little by their numbers alone.

Neither is certain, and both are said beside what was seen, never in its place.
"""

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.programs import INNER_GRADIENT, Program
from gradspec.properties.judging.judgement import Judgement

NEVER_WRITTEN = "looks like memory that was never written"
NOT_DIFFERENTIABLE_TWICE = (
    "the backward pass cannot be differentiated; if it is not meant to be, `nests=False` says so "
    "(of a `Backend`, or to `with_ops`), and second derivatives are not asked for"
)

MODERATE = 1e-4, 1e4
"""Between these sizes numbers are moderate: what is computed from such alone is no subnormal number."""

LARGEST_INTEGERS = frozenset(float(np.iinfo(dtype).max) for dtype in ("int16", "int32", "int64"))
"""What fills integers that nobody has written."""


def explain(judgement: Judgement, case: Any, judge_in_other_memory: Callable[[], Judgement]) -> list[str]:
    """Return what a disagreement looks like, a line each.

    Args:
        judgement: The disagreement.
        case: The case.
        judge_in_other_memory: Judges the case again with new memory filled with another number than NaN.
    """
    explanations = []
    if _is_subnormal_among_moderate(judgement, case) or _is_poison(judgement, case, judge_in_other_memory):
        explanations.append(NEVER_WRITTEN)
    if "once_differentiable" in judgement.reason:
        explanations.append(f"with torch's @once_differentiable {NOT_DIFFERENTIABLE_TWICE}")
    elif _lacks_second_derivative(judgement, case):
        explanations.append(
            "0 is what comes of a backward pass that autograd does not see into, or of torch's "
            f"@once_differentiable: {NOT_DIFFERENTIABLE_TWICE}"
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


def _is_poison(judgement: Judgement, case: Any, judge_in_other_memory: Callable[[], Judgement]) -> bool:
    """Return whether a result that should be a number is NaN only while new memory is filled with NaN."""
    wrong = judgement.wrong
    if wrong is None or not math.isfinite(wrong.expected):
        return False
    if not (math.isnan(wrong.got) or wrong.got in LARGEST_INTEGERS):
        return False
    if isinstance(case, Case) and not all(
        np.all(np.isfinite(x.astype(np.float64))) for x in (*case.inputs, case.cotangent)
    ):
        return False
    now = judge_in_other_memory()
    if now.wrong is None:
        return now.verdict != "disagree"
    return not (now.wrong.got == wrong.got or (math.isnan(now.wrong.got) and math.isnan(wrong.got)))


def _lacks_second_derivative(judgement: Judgement, case: Any) -> bool:
    """Return whether a derivative of a gradient is zero that should not be."""
    wrong = judgement.wrong
    if wrong is None or wrong.got != 0 or wrong.expected == 0:
        return False
    in_program = isinstance(case, Program) and any(op == INNER_GRADIENT for op, _, _ in case.steps)
    return in_program or wrong.what.startswith("derivative by ")
