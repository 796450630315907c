"""Do extreme numbers go where the spec says, and is no finite gradient lost to overflow on the way?

Extreme numbers: huge and tiny ones, subnormals, infinities, NaN and zeros of either sign. The spec decides,
run in higher precision, at the precision of the case, and there again with every operation off by a unit in
the last place. Where these runs agree that an element is finite, infinite or NaN, the backend must agree too.
Where they do not, the spec itself loses the number, or is on the brink of overflow, and nothing is asked.
What IEEE 754 and mathematics leave open is left open here:

- results below the smallest normal number may be zero (except in float16, where no library makes them so);
  where a backend flushes such numbers, whatever else follows from that (`judging.subnormals`);
- zeros may have either sign, and so may an infinite gradient with respect to a zero;
- gradients with respect to a NaN, or to a number on a kink;
- results on the brink of overflow, within a factor of `OVERFLOW_HEADROOM`: roundings and their order decide;
- where an op combines elements (sums, softmax) and its numbers come near to overflow: which of them overflow,
  because their order decides (except for results that are themselves far beyond the largest number); and how
  close the others come, because a number that was divided by an infinity is finite, too;
- where it combines elements and its value underflows: how close the gradients come, because a product that is
  0 says nothing about its factors when divided by one;
- where it combines elements and the spec's outcome holds an infinity or NaN: what else becomes NaN (a softmax
  that subtracts an infinite maximum is NaN throughout, and so is a product divided by its infinite factor).
  Exceptions are gradients that are NaN in the spec, and infinite values with no NaN beside them, whose
  computation meets no number so large or small that another order makes it infinite or zero.

The last three are open only for elements in which an extraordinary number had a part. All others are firm
(`cases.firm`) and judged as if nothing extraordinary stood beside them: what lies in other rows than an
infinity; where the op takes masks (`cases.infinities`), what lies in the row of a -inf, and the gradient of
the -inf itself; and all gradients that no number has a part in, as those of a sum. A row of -inf throughout
is not firm, what stands beside it is. Nor is what a mask alone keeps out in a formula (`cases.touching`).
Each element of an elementwise op is judged whatever the others are.

Does not see: what IEEE 754 and mathematics leave open: whether numbers below the smallest normal one are
zero, signs of zeros, gradients by NaN or on a kink, results on the brink of overflow and, in elements that
are not firm, which others overflow or become NaN with them; extreme cotangents, but for gradients beside an
infinite one; the value that vjp returns together with the pullback.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import Result, differentiate, forward
from gradspec.properties.cases.firm import FirmElements
from gradspec.properties.judging.judge import (
    JITTERED_COPY_COUNTS,
    OVERFLOW_HEADROOM,
    Judge,
    Judgement,
    combine_judgements,
)
from gradspec.properties.judging.judgement import Severity, WrongElement
from gradspec.reference.rule import Array

SEVERITY: Severity = "edge"

GetResultPart = Callable[[Result], Array]
FINITE, PLUS_INF, MINUS_INF, NAN = range(4)
_KIND_NAMES = ("finite", "inf", "-inf", "nan")


class ExtremesJudge(Judge):
    """A judge of a case with extraordinary numbers, and of the firm elements of its outcome by themselves."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.firm = FirmElements(case)

    @cached_property
    def ordinary(self) -> Judge:
        """The judge of the case with ordinary numbers in place of the others, whose noise is not theirs."""
        return Judge(self.firm.ordinary_case)


def extremes_go_where_the_spec_says(backend: Backend, case: Case) -> Judgement:
    """Judge whether results are finite, infinite or NaN where the spec's are, and right where finite."""
    judge = ExtremesJudge(case)
    judgements = [_judge_part(judge, "value", forward(backend, case), lambda r: r.value)]
    if case.op.differentiable:
        gradients = differentiate(backend, case).gradients
        for i, distance in enumerate(case.compute_kink_distances()):
            if i in case.differentiable_inputs:
                name, x = case.op.argument_name(i), case.inputs[i]
                part: GetResultPart = lambda r, n=name: r.gradients[n]  # type: ignore[misc]
                got = _copy_sign_at_zeros(gradients[name], part(judge.exact), x)
                judgements.append(
                    _judge_part(judge, f"gradient of {name}", got, part, (distance > 0) & ~np.isnan(x))
                )
    return combine_judgements(judgements)


def extremes_of_elementwise_ops_go_where_the_spec_says(backend: Backend, case: Case) -> Judgement:
    """Judge the same of an elementwise op, of which every pair of extreme numbers is tried."""
    return extremes_go_where_the_spec_says(backend, case)


def gradients_beside_infinite_cotangents_agree(backend: Backend, case: Case) -> Judgement:
    """Judge the gradients of all that goes into no element of the value whose cotangent is infinite."""
    judge, judgements = ExtremesJudge(case), []
    for name, got in differentiate(backend, case).gradients.items():
        part: GetResultPart = lambda r, n=name: r.gradients[n]  # type: ignore[misc]
        judgements.append(_judge_firm_elements(judge, f"gradient of {name}", got, part))
    return combine_judgements(judgements)


def _copy_sign_at_zeros(got: Any, exact: Any, x: Any) -> Array:
    """Return the gradient with the exact sign where it is infinite because x is a zero, of either sign."""
    if got.shape != exact.shape:
        return got
    signless = np.isinf(got) & (x == 0)
    signed: Array = np.where(signless, np.copysign(np.inf, exact), got).astype(got.dtype)
    return signed


def _judge_part(
    judge: ExtremesJudge, what: str, got: Array, part: GetResultPart, smooth: Array | bool = True
) -> Judgement:
    """Judge the value or a gradient.

    Args:
        judge: The judge of the case.
        what: Which result it is, in words.
        got: The result of the backend.
        part: Takes this result from the spec's outcome.
        smooth: Where it is judged: not at gradients with respect to a NaN or a number on a kink.
    """
    exact = part(judge.exact)
    if exact.dtype.kind in "biu" or got.shape != exact.shape:
        return judge.judge(what, got, part)
    got = judge.restore_flushed(got, part)
    kinds = classify(exact.astype(dtype_of(judge.dtype)))
    # In most cases all kinds are right, and no jittered copies are needed.
    judgement = Judgement("undecidable")
    if not np.any(smooth & (classify(got) != kinds)):
        judgement = _judge_closeness(judge, what, got, part, smooth & (kinds == FINITE))
    agrees = judgement.verdict in ("agree", "lossy")
    # What overflows or underflows somewhere widens what is allowed everywhere.
    if not agrees or judge.near_overflow or judge.relative_underflow_error:
        firm = _judge_firm_elements(judge, what, got, part, smooth)
        if firm.verdict == "disagree":
            return firm
    if agrees:
        return replace(
            judgement, informative=bool(np.any(smooth & _where_samples_agree(judge, part, kinds, 0)))
        )
    agreement = wrong = np.zeros(exact.shape, np.bool_)
    for copies in JITTERED_COPY_COUNTS:
        agreement = smooth & _where_samples_agree(judge, part, kinds, copies)
        undetermined = _where_undetermined(judge, got, part, what != "value")
        wrong = agreement & (classify(got) != kinds) & ~undetermined
        if not np.any(wrong):
            break
    else:
        at = tuple(map(int, np.argwhere(wrong)[0]))
        expected = f"{exact[at]:.9g}" if kinds[at] == FINITE else _KIND_NAMES[kinds[at]]
        return Judgement(
            "disagree",
            f"the {what}{f' at {at}' if at else ''} is {got[at]}, expected {expected}"
            + (_describe_lost_nan(judge.case, float(got[at]), at) if kinds[at] == NAN else ""),
            wrong=WrongElement(what, at, float(got[at]), float(exact[at])),
        )
    close = agreement & (kinds == FINITE) & (classify(got) == FINITE) & (not _may_lose_numbers(judge))
    return replace(_judge_closeness(judge, what, got, part, close), informative=bool(np.any(agreement)))


def _describe_lost_nan(case: Case, got: float, at: tuple[int, ...]) -> str:
    """Return in words that a NaN of an input became a number; "" if no input has one that matters here.

    Args:
        case: The case.
        got: What the result is where the spec's is NaN.
        at: Where that is; in an elementwise op only NaNs that are broadcast to it matter.
    """
    shape, names = case.cotangent.shape, []
    for i, x in enumerate(case.inputs):
        if x.dtype.kind in "biu":
            continue
        if case.op.elementwise and len(at) == len(shape) == len(np.broadcast_shapes(x.shape, shape)):
            x = np.broadcast_to(x, shape)[at]
        if np.any(np.isnan(x)):
            names.append(case.op.argument_name(i))
    return f": a NaN of {' and '.join(names)} became {got:g}" if names else ""


def _judge_firm_elements(
    judge: ExtremesJudge, what: str, got: Array, part: GetResultPart, smooth: Array | bool = True
) -> Judgement:
    """Judge the elements in which nothing extraordinary had a part, as ordinary numbers beside others are."""
    exact, ordinary = part(judge.exact), part(judge.ordinary.exact)
    if judge.case.op.elementwise:
        return Judgement("agree", informative=False)
    where = smooth & part(judge.firm.outcome) & np.isfinite(exact) & (ordinary == exact)
    return _judge_closeness(judge.ordinary, what, got, part, where)


def _where_samples_agree(judge: Judge, part: GetResultPart, kinds: Array, copies: int) -> Array:
    """Return where the spec at this precision, in all jittered copies, is of the kind of the exact result.

    So must be its usual formulas: a gelu by 1 - tanh^2 has no gradient at -inf, where the limit is 0.
    """
    dtype, every = dtype_of(judge.dtype), (judge.samples, *judge.usual_samples)
    return np.logical_and.reduce(
        [classify(part(s).astype(dtype)) == kinds for f in every for s in f.compute_samples(copies)]
    )


def _where_undetermined(judge: Judge, got: Array, part: GetResultPart, gradient: bool) -> Array:
    """Return where it is open whether a backend's result is finite."""
    exact, dtype, is_elementwise = part(judge.exact), dtype_of(judge.dtype), judge.case.op.elementwise
    kinds = classify(exact.astype(dtype))
    brink = np.isfinite(exact) & (np.abs(exact) > float(ml_dtypes.finfo(dtype).max) / OVERFLOW_HEADROOM)
    if not is_elementwise or dtype.itemsize == 2:
        brink |= judge.near_overflow
        beyond = np.abs(exact) / OVERFLOW_HEADROOM > float(ml_dtypes.finfo(dtype).max)
        brink &= ~(beyond & (classify(got) == FINITE))
    may_be_nan = np.logical_or(classify(got) == NAN, kinds == NAN if gradient else False) & (
        not is_elementwise and _has_element(judge, lambda x: ~np.isfinite(x))
    )
    if not (
        gradient or judge.near_overflow or judge.relative_underflow_error or _has_element(judge, np.isnan)
    ):
        may_be_nan &= kinds == FINITE
    return (brink & ((kinds == FINITE) | (classify(got) == FINITE))) | may_be_nan


def _may_lose_numbers(judge: Judge) -> bool:
    """Return whether the op combines elements and meets numbers that another order may lose or keep."""
    if judge.case.op.elementwise:
        return False
    tiny, value = float(ml_dtypes.finfo(dtype_of(judge.dtype)).tiny), np.abs(judge.exact.value)
    underflows = bool(np.any((value > 0) & (value < tiny)))
    return underflows or judge.near_overflow


def _judge_closeness(judge: Judge, what: str, got: Array, part: GetResultPart, where: Array) -> Judgement:
    """Judge the elements in `where` as closely as ordinary numbers; tiny ones count as exact.

    Tiny numbers, which may be flushed to zero, are below twice the smallest normal one; float16 has none.
    """
    exact = part(judge.exact)
    tiny = 0.0 if judge.dtype == "float16" else float(ml_dtypes.finfo(dtype_of(judge.dtype)).tiny)
    flushed = (np.abs(exact) < 2 * tiny) & (np.abs(got.astype(exact.dtype)) < 2 * tiny)
    return judge.judge(what, np.where(where & ~flushed, got.astype(exact.dtype), exact), part)


def _has_element(judge: Judge, predicate: Callable[[Array], Array]) -> bool:
    """Return whether the predicate is true of any element of the spec's outcome at this precision."""
    outcome, dtype = judge.compute_samples(0)[0], dtype_of(judge.dtype)
    # What is 16 bits wide is computed in 32, where less is infinite.
    return any(np.any(predicate(x.astype(dtype))) for x in (outcome.value, *outcome.gradients.values()))


def classify(x: Array) -> Array:
    """Return the kind of each element: FINITE, PLUS_INF, MINUS_INF or NAN."""
    return np.select([np.isnan(x), x == np.inf, x == -np.inf], [NAN, PLUS_INF, MINUS_INF], FINITE)
