"""Does bad input raise? Shapes that do not fit, axes out of range or named twice, indices that are none, wrong dtypes.

The spec is the measure: where it raises, the backend must raise as well, be it at the call, in the pullback or when
arrays are made; what error is the backend's affair. Where the spec has an answer the backend must have one, so that a
backend that always raises does not pass; and a refusal leaves nothing behind, such as a tape switched off. Nothing broadcasts silently: a bias of length 1, a cotangent of shape (1,).
"""

from functools import cache

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import Result, run_on_backend
from gradspec.properties.judging.judge import SPEC_BACKEND, Judgement
from gradspec.reference.cases import SmallestChoices
from gradspec.reference.op import Op, fill_from_domain


def what_the_spec_refuses_raises(backend: Backend, case: Case) -> Judgement:
    """The backend raises where the spec raises, and only there."""
    good = make_smallest_case(case.op, case.dtype)
    refusal, before, error = (
        _catch_error(SPEC_BACKEND, case),
        _run_or_none(backend, good),
        _catch_error(backend, case),
    )
    if refusal is None and error is not None:
        raise error
    if refusal is not None and error is None:
        return Judgement("disagree", f"nothing was raised; the spec says {type(refusal).__name__}: {refusal}")
    if (
        error is not None
        and before is not None
        and not _are_equal_results(before, _run_or_none(backend, good))
    ):
        return Judgement(
            "disagree", f"it was refused, as it must be, but from then on {good.op.name} gives something else"
        )
    return Judgement("agree", informative=refusal is not None)


@cache
def make_smallest_case(op: Op, dtype: str) -> Case:
    """The smallest call of an op."""
    call = op.cases(SmallestChoices())
    inputs = [fill_from_domain(op.domain(i), s) for i, s in enumerate(call.shapes)]
    g = np.ones(np.shape(op.rule(*inputs, **call.keywords)[0]))
    return Case.of(op.name, dtype, inputs, call.keywords, g)


def _run_or_none(backend: Backend, case: Case) -> Result | None:
    """What a right call gives, or None where it raises: that is not what is asked here."""
    try:
        return run_on_backend(backend, case)
    except Exception:
        return None


def _are_equal_results(before: Result, after: Result | None) -> bool:
    arrays = ((r.value, *r.gradients.values()) for r in (before, after) if r is not None)
    return after is not None and all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in zip(*arrays, strict=True)
    )


def _catch_error(backend: Backend, case: Case) -> Exception | None:
    """What a call raises, with its pullback if it has one."""
    try:
        run_on_backend(backend, case)
    except Exception as error:
        return error
    return None
