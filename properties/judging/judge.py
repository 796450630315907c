"""The judge: does a result agree with the spec, as closely as its precision lets it?

Tolerances are computed, never tuned. `exact` is the spec in higher precision. `noise` is how far from `exact` the spec
itself lands at the precision in question: as it is, and on jittered copies, in which the inputs and the result of every
operation are off by a unit in the last place (`rounding`). A result may be off by

    FACTOR * (noise + ulp(exact))

element by element, with one FACTOR for all ops, dtypes and backends. The noise is measured only as far as a verdict
needs it: the ulp alone decides most cases, a few copies most others, many copies the rest, so that a noise that is small
by luck never fails a right result.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

import ml_dtypes
import numpy as np

from gradspec.backends import load
from gradspec.properties.cases.case import Case, dtype_of, exact_dtype
from gradspec.properties.cases.evaluate import Result, run_spec
from gradspec.properties.judging.rounding import JitteredArray, RandomRounding, use_rounding
from gradspec.reference.rule import Array

FACTOR = 4.0  # of torch's right results the worst needed 1.5, over all ops and four dtypes
JITTERED_COPIES = (2, 8, 64)  # how many jittered copies are tried, in turn, before a result is found wrong
OVERFLOW_HEADROOM = 256  # what comes so near to overflow may get there in another order of operations

SPEC_BACKEND = load("numpy")  # the spec as a backend, for laws about more than one op

T = TypeVar("T")
Convert = Callable[[Array], Array]
Verdict = Literal["agree", "disagree", "undecidable"]


@dataclass(frozen=True)
class Judgement:
    """What the judge says of one case.

    verdict: undecidable where no result could have been found wrong, for the reason given. informative: whether a
    result of all zeros would have been found wrong somewhere. worst: the largest error, in units of what was allowed.
    """

    verdict: Verdict
    reason: str = ""
    informative: bool = True
    worst: float = 0.0


class ComputationJudge(Generic[T]):
    """A computation of the spec as the measure of others: its exact outcome, and how far rounding moves it.

    compute: the computation, given what to do to each array of floats that it starts from. rounds: whether it rounds at
    all. What is expensive is computed when first needed, and once.
    """

    def __init__(self, dtype: str, compute: Callable[[Convert], T], rounds: bool = True) -> None:
        self.dtype, self.compute, self.rounds = dtype, compute, rounds
        self._samples: list[T] = []
        # The largest and the smallest number that the spec met on its way.
        self._peak, self._trough = 0.0, np.inf

    @cached_property
    def exact(self) -> T:
        """The outcome in higher precision."""
        return _call_quietly(self.compute, lambda x: x.astype(exact_dtype(self.dtype)))

    def compute_samples(self, copies: int) -> list[T]:
        """Outcomes at the precision of the dtype: as they are, and of so many jittered copies."""
        while len(self._samples) <= copies:
            sample, how = _compute_at_precision(self.compute, self.dtype, seed=len(self._samples))
            self._samples.append(sample)
            self._peak, self._trough = max(self._peak, how.peak), min(self._trough, how.trough)
        return self._samples[: copies + 1]

    @property
    def near_overflow(self) -> bool:
        """Whether the jittered copies so far met numbers so large that another order of operations may overflow."""
        return OVERFLOW_HEADROOM * self._peak > float(ml_dtypes.finfo(dtype_of(self.dtype)).max)

    @property
    def share_lost_to_underflow(self) -> float:
        """The share of a number that is lost when it passes through the smallest one that the copies so far met."""
        info = ml_dtypes.finfo(dtype_of(self.dtype))
        return float(info.smallest_subnormal) / self._trough if self._trough < info.smallest_normal else 0.0

    def measure_noise(self, part: Callable[[T], Array], copies: int) -> Array:
        """The largest distance from `exact` of outcomes at the precision of the dtype, over so many jittered copies."""
        exact = part(self.exact)
        with np.errstate(all="ignore"):
            rounded = [_cast(part(s), dtype_of(self.dtype)) for s in self.compute_samples(copies)]
            return np.max([np.abs(r.astype(exact.dtype) - exact) for r in rounded], axis=0)

    def judge(
        self,
        what: str,
        got: Array,
        part: Callable[[T], Array],
        *,
        expected: Array | None = None,
        scale: Any = 0,
    ) -> Judgement:
        """Whether `got` is this part of the outcome.

        expected: what it is compared with instead, where both come from the backend; each may be off by what is allowed.
        scale: the size of numbers that may have cancelled to give this part; their last place counts where they are larger.
        """
        exact, times = (part(self.exact), 1) if expected is None else (expected, 2)
        if got.shape != exact.shape:
            return Judgement(
                "disagree", f"the {what} has shape {got.shape}, expected {exact.shape}", worst=np.inf
            )
        if exact.dtype.kind in "biu":
            return _judge_equality(what, got, exact)
        dtype, exact = dtype_of(self.dtype), exact.astype(exact_dtype(self.dtype))
        with np.errstate(all="ignore"):
            decidable = np.isfinite(exact) & np.isfinite(exact.astype(dtype).astype(exact.dtype))
            error = np.abs(got.astype(exact.dtype) - exact)
            error = np.where(np.isnan(error), np.inf, error)
            unit = ulp(np.maximum(np.abs(exact), scale), dtype)
            allowed = times * FACTOR * unit
            for copies in JITTERED_COPIES if self.rounds else ():
                if np.all((error <= allowed) | ~decidable):
                    break
                noise = self.measure_noise(part, copies)
                decidable &= np.isfinite(noise)
                if self.near_overflow:
                    decidable &= np.isfinite(got.astype(exact.dtype))
                noise = np.where(np.isfinite(noise), noise, 0) + self.share_lost_to_underflow * np.abs(exact)
                allowed = times * FACTOR * (noise + unit)
        return _reach_verdict(what, got, exact, error, allowed, decidable)


class Judge(ComputationJudge[Result]):
    """Judges results of one case."""

    def __init__(self, case: Case) -> None:
        super().__init__(
            case.dtype, lambda convert: run_spec(case.map_float_arrays(convert)), case.op.differentiable
        )
        self.case = case

    def judge_value(self, got: Array) -> Judgement:
        """Whether `got` is the value of the case."""
        return self.judge("value", got, lambda r: r.value)

    def judge_gradient(self, argument: str, got: Array) -> Judgement:
        """Whether `got` is the gradient of this argument."""
        return self.judge(f"gradient of {argument}", got, lambda r: r.gradients[argument])

    def judge_gradients(self, got: dict[str, Array]) -> Judgement:
        """Whether every gradient is right."""
        return combine_judgements([self.judge_gradient(name, d) for name, d in got.items()])


def ulp(exact: Array, dtype: np.dtype[Any]) -> Array:
    """The distance between neighbouring numbers of a dtype, at each element."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.spacing(np.abs(exact).astype(dtype)).astype(exact.dtype)


def combine_judgements(judgements: list[Judgement]) -> Judgement:
    """One judgement of several parts of a case: the worst verdict, informative if any part is."""
    order: list[Verdict] = ["disagree", "agree", "undecidable"]
    if not judgements:
        return Judgement("agree", informative=False)
    first = min(judgements, key=lambda j: order.index(j.verdict))
    return Judgement(
        first.verdict,
        first.reason,
        any(j.informative for j in judgements),
        max(j.worst for j in judgements),
    )


def _reach_verdict(
    what: str, got: Array, exact: Array, error: Array, allowed: Array, decidable: Array
) -> Judgement:
    with np.errstate(all="ignore"):
        ratio = np.where(decidable, error / allowed, 0)
    worst = float(np.max(ratio, initial=0))
    if worst > 1:
        at = np.unravel_index(np.argmax(ratio), ratio.shape)
        place = f" at {tuple(map(int, at))}" if at else ""
        return Judgement(
            "disagree",
            f"the {what}{place} is {float(got[at]):.9g}, expected {float(exact[at]):.9g}, "
            f"allowed to be off by {float(allowed[at]):.3g}, is off by {float(error[at]):.3g}",
            worst=worst,
        )
    if np.any(decidable & (allowed < np.abs(exact))):
        return Judgement("agree", worst=worst)
    if not np.all(decidable):
        return Judgement("undecidable", f"the {what} overflows at this precision", informative=False)
    if np.any(exact):
        return Judgement(
            "undecidable", f"the allowed distance of the {what} is too wide to tell", informative=False
        )
    return Judgement("agree", f"the {what} is zero throughout", informative=False, worst=worst)


def _judge_equality(what: str, got: Array, exact: Array) -> Judgement:
    wrong = np.argwhere(got != exact)
    if len(wrong):
        at = tuple(map(int, wrong[0]))
        return Judgement(
            "disagree", f"the {what} at {at} is {got[at]}, expected {exact[at]}, exactly", worst=np.inf
        )
    return Judgement("agree", informative=exact.size > 0)


def _compute_at_precision(compute: Callable[[Convert], T], dtype: str, seed: int) -> tuple[T, RandomRounding]:
    """The outcome at the precision of a dtype, as it is (seed 0) or jittered, and what numbers it then met on the way.

    16-bit floats are computed in float32 and rounded at the end: once, but for the jitter.
    """
    how = RandomRounding(dtype_of(dtype), seed)

    def convert(x: Array) -> Array:
        x = x.astype(how.compute_dtype)
        return how.jitter(x).view(JitteredArray) if seed else x

    with use_rounding(how):
        return _call_quietly(compute, convert), how


def _cast(x: Array, dtype: np.dtype[Any]) -> Array:
    return x if x.dtype.kind in "biu" else np.asarray(x).view(np.ndarray).astype(dtype)


def _call_quietly(fn: Callable[[Convert], T], convert: Convert) -> T:
    """The result without NumPy's warnings: overflow and 0/0 are part of the answer here."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        return fn(convert)
