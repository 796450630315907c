"""The judge: does a result agree with the spec, as closely as its precision lets it?

Tolerances are computed, never tuned. `exact` is the spec in higher precision. `noise` is how far from `exact`
the spec itself lands at the precision of the result. It is run as it is, and on jittered copies, in which the
inputs and the result of every operation are off by a unit in the last place (`jitter`); the largest
distance counts. A result may be off by

    allowed = ALLOWED_FACTOR * (noise + ulp(exact))

element by element, with one factor for all ops, dtypes and backends. The noise is measured only as far as a
verdict needs it: the ulp alone decides most cases, a few copies most others, many copies the rest, so that a
noise that is small by luck never fails a right result.

An example, the variance of (1000, 1001, 1001) in float32:

    exact     2/9 = 0.22222222..., of which the ulp is 1.5e-8
    as it is  0.22222221
    8 copies  0.22216792  0.22227658  0.22227655  0.22222224
              0.22222228  0.22211365  0.22222222  0.22227650

    copies    noise     allowed
    none      -         6.0e-8   4 * 1.5e-8: no noise is measured yet
    2         5.4e-5    2.2e-4   4 * (5.4e-5 + 1.5e-8)
    8         1.1e-4    4.3e-4   the sixth copy is furthest off
    64        1.1e-4    4.3e-4

Of four results 0.22222221 is off by 1.3e-8 and agrees at once; 0.22217 is off by 5.2e-5 and agrees after two
copies; 0.2218 is off by 4.2e-4 and agrees after eight. 0.1875, which mean(x * x) - mean(x) ** 2 gives in
float32, is off by 3.5e-2, eighty times what 64 copies allow: it is wrong.
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
from gradspec.properties.judging.jitter import JitteredArray, JitterSource, use_jitter
from gradspec.reference.rule import Array

ALLOWED_FACTOR = 4.0  # the worst of torch's right results needed 1.5, over all ops and four dtypes
JITTERED_COPY_COUNTS = (2, 8, 64)  # so many are tried, in turn, before a result is found wrong
OVERFLOW_HEADROOM = 256  # within this factor of overflow, another order of operations may overflow

SPEC_BACKEND = load("numpy")  # the spec as a backend, for laws about more than one op

T = TypeVar("T")
ConvertToPrecision = Callable[[Array], Array]
Verdict = Literal["agree", "disagree", "undecidable"]


@dataclass(frozen=True)
class Judgement:
    """What the judge says of one case.

    Attributes:
        verdict: "undecidable" where no result could have been found wrong.
        reason: Why the verdict is not "agree", or why an agreement says little.
        informative: Whether a result of all zeros would have been found wrong somewhere.
        worst: The largest error, in units of what was allowed.
    """

    verdict: Verdict
    reason: str = ""
    informative: bool = True
    worst: float = 0.0


class ComputationJudge(Generic[T]):
    """Judges results of a computation by the spec's: its exact outcome, and how far rounding moves it.

    What is expensive is computed when first needed, and once.
    """

    def __init__(self, dtype: str, compute: Callable[[ConvertToPrecision], T], rounds: bool = True) -> None:
        """Make a judge that has computed nothing yet.

        Args:
            dtype: The dtype of the results that are judged.
            compute: The computation; its argument is applied to each array of floats that it starts from.
            rounds: Whether the computation rounds at all.
        """
        self.dtype, self.compute, self.rounds = dtype, compute, rounds
        self._samples: list[T] = []
        # The largest and the smallest number that the jittered copies met on their way.
        self._peak, self._trough = 0.0, np.inf

    @cached_property
    def exact(self) -> T:
        """The outcome in higher precision."""
        return _call_quietly(self.compute, lambda x: x.astype(exact_dtype(self.dtype)))

    def compute_samples(self, copies: int) -> list[T]:
        """Return outcomes at the precision of the dtype: the plain one, then those of the jittered copies."""
        while len(self._samples) <= copies:
            sample, rounding = _compute_at_precision(self.compute, self.dtype, seed=len(self._samples))
            self._samples.append(sample)
            self._peak = max(self._peak, rounding.peak)
            self._trough = min(self._trough, rounding.trough)
        return self._samples[: copies + 1]

    @property
    def near_overflow(self) -> bool:
        """Whether the copies so far met numbers so large that another order of operations may overflow."""
        return OVERFLOW_HEADROOM * self._peak > float(ml_dtypes.finfo(dtype_of(self.dtype)).max)

    @property
    def relative_underflow_error(self) -> float:
        """The share of a number that is lost if it passes through the smallest one the copies so far met."""
        info = ml_dtypes.finfo(dtype_of(self.dtype))
        return float(info.smallest_subnormal) / self._trough if self._trough < info.smallest_normal else 0.0

    def measure_noise(self, part: Callable[[T], Array], copies: int) -> Array:
        """Return, for each element, how far from `exact` the samples of so many jittered copies get.

        Args:
            part: What to take of an outcome.
            copies: How many jittered copies to look at, besides the plain run.
        """
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
        """Judge whether `got` is one part of the outcome.

        Args:
            what: What the part is called in the reason.
            got: The result to judge.
            part: What to take of an outcome.
            expected: What to compare with instead of the exact outcome, where both results come from the
                backend; each of the two may then be off by what is allowed.
            scale: The size of numbers that may have cancelled to give this part; where they are larger than
                the part, their last place counts.
        """
        exact, uncertain_sides = (part(self.exact), 1) if expected is None else (expected, 2)
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
            allowed = uncertain_sides * ALLOWED_FACTOR * unit
            for copies in JITTERED_COPY_COUNTS if self.rounds else ():
                if np.all((error <= allowed) | ~decidable):
                    break
                noise = self.measure_noise(part, copies)
                decidable &= np.isfinite(noise)
                if self.near_overflow:
                    decidable &= np.isfinite(got.astype(exact.dtype))
                noise = np.where(np.isfinite(noise), noise, 0) + self.relative_underflow_error * np.abs(exact)
                allowed = uncertain_sides * ALLOWED_FACTOR * (noise + unit)
        return _reach_verdict(what, got, exact, error, allowed, decidable)


class Judge(ComputationJudge[Result]):
    """Judges the value and the gradients of one case."""

    def __init__(self, case: Case) -> None:
        super().__init__(
            case.dtype, lambda convert: run_spec(case.map_float_arrays(convert)), case.op.differentiable
        )
        self.case = case

    def judge_value(self, got: Array) -> Judgement:
        """Judge whether `got` is the value of the case."""
        return self.judge("value", got, lambda r: r.value)

    def judge_gradient(self, argument: str, got: Array) -> Judgement:
        """Judge whether `got` is the gradient of this argument."""
        return self.judge(f"gradient of {argument}", got, lambda r: r.gradients[argument])

    def judge_gradients(self, got: dict[str, Array]) -> Judgement:
        """Judge whether every gradient, by argument, is right."""
        return combine_judgements([self.judge_gradient(name, d) for name, d in got.items()])


def ulp(exact: Array, dtype: np.dtype[Any]) -> Array:
    """Return the distance between neighbouring numbers of a dtype, at each element."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.spacing(np.abs(exact).astype(dtype)).astype(exact.dtype)


def combine_judgements(judgements: list[Judgement]) -> Judgement:
    """Return one judgement of several parts of a case: the worst verdict, informative if any part is."""
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


def _compute_at_precision(
    compute: Callable[[ConvertToPrecision], T], dtype: str, seed: int
) -> tuple[T, JitterSource]:
    """Return the outcome at the precision of a dtype, plain (seed 0) or jittered, and what rounded it.

    16-bit floats are computed in float32 and rounded at the end: once, apart from the jitter.
    """
    rounding = JitterSource(dtype_of(dtype), seed)

    def convert(x: Array) -> Array:
        x = x.astype(rounding.compute_dtype)
        return rounding.jitter(x).view(JitteredArray) if seed else x

    with use_jitter(rounding):
        return _call_quietly(compute, convert), rounding


def _cast(x: Array, dtype: np.dtype[Any]) -> Array:
    return x if x.dtype.kind in "biu" else np.asarray(x).view(np.ndarray).astype(dtype)


def _call_quietly(fn: Callable[[ConvertToPrecision], T], convert: ConvertToPrecision) -> T:
    """Return fn(convert) without NumPy's warnings: overflow and 0/0 are part of the answer here."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        return fn(convert)
