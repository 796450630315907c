"""Does bad input raise?

Bad input: shapes that do not fit, axes out of range or named twice, invalid indices, wrong dtypes. The spec
decides: where it raises, the backend must raise too, whether at the call, in the pullback or when arrays are
made; which error is up to the backend. Where the spec has an answer the backend must have one or decline the
call, so that a backend that always raises does not pass. One that declines the op's smallest call refuses
nothing by declining others. A refusal must leave nothing behind, such as a tape that is switched off. Nothing
may broadcast silently: a bias of length 1, a cotangent of shape (1,).

To accept what the spec refuses is lax; to refuse what it accepts raises; to leave something behind is unsafe.

Does not see: which error is raised, or when; a wrong answer where the spec has one; what a refusal leaves
behind, if the op's smallest call gives the same as before; bad input that has an empty array or a 16-bit
dtype; bad indices on a GPU.
"""

from functools import cache

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import Result, run_on_backend
from gradspec.properties.judging.judge import Judgement, get_spec_backend
from gradspec.properties.judging.judgement import Severity
from gradspec.reference.calls import SmallestChoices
from gradspec.reference.op import Op, fill_from_domain

SEVERITY: Severity = "lax"


def what_the_spec_refuses_raises(backend: Backend, case: Case) -> Judgement:
    """Judge whether the backend raises where the spec does, only there, and leaves nothing behind."""
    good = make_smallest_case(case.op, case.dtype)
    refusal = _catch_error(get_spec_backend(), case)
    before = _run_or_none(backend, good)
    error = _catch_error(backend, case)
    if error is not None and (refusal is None or (isinstance(error, NotImplementedError) and before is None)):
        raise error  # which declines the case, if it is a `NotImplementedError`
    if refusal is not None and error is None:
        reason = f"nothing was raised; the spec raises {type(refusal).__name__}: {refusal}"
        return Judgement("disagree", reason, severity="lax")
    if error is None or before is None or _are_equal_results(before, _run_or_none(backend, good)):
        return Judgement("agree", informative=refusal is not None)
    reason = f"it was refused, as it must be, but {good.op.name} gives other results from then on"
    return Judgement("disagree", reason, severity="unsafe")


@cache
def make_smallest_case(op: Op, dtype: str) -> Case:
    """Return a case of the smallest call of the op."""
    call = op.draw_call(SmallestChoices())
    inputs = [fill_from_domain(op.domain(i), s) for i, s in enumerate(call.shapes)]
    g = np.ones(np.shape(op.compute_value(*inputs, **call.keywords)))
    return Case.of(op.address, dtype, inputs, call.keywords, g, picked=op.picked)


def _run_or_none(backend: Backend, case: Case) -> Result | None:
    """Return what a good call gives, or None if it raises, which is not the question here."""
    try:
        return run_on_backend(backend, case)
    except Exception:
        return None


def _are_equal_results(before: Result, after: Result | None) -> bool:
    """Return whether two runs gave the same value and gradients; a NaN equals a NaN."""
    arrays = ((r.value, *r.gradients.values()) for r in (before, after) if r is not None)
    return after is not None and all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in zip(*arrays, strict=True)
    )


def _catch_error(backend: Backend, case: Case) -> Exception | None:
    """Return what the call raises, or its pullback if it has one; None if neither does."""
    try:
        run_on_backend(backend, case)
    except Exception as error:
        return error
    return None
