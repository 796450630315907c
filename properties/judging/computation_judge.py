"""The judge: does a result agree with the spec, as closely as its precision lets it?

Tolerances are computed, never tuned. `exact` is the spec in higher precision. `noise` is how far from `exact`
the spec itself lands at the precision of the result. It is run as it is, and on jittered copies, in which the
inputs and the result of every operation are off by a unit in the last place (`jitter`); the largest
distance counts. A result may be off by

    allowed = ALLOWED_FACTOR * (noise + ulp(exact))

element by element, with one factor for all ops, dtypes and backends. The noise is measured only as far as a
verdict needs it: the ulp alone decides most cases, the plain run or a few copies most others, many copies
the rest, so that a noise that is small by luck never fails a right result. What agrees sooner is within what
would be allowed later, since the noise only grows. How near right results come to what is allowed, only all
copies tell: `measure_noise_fully` has them all looked at.

An example, the variance of (1000, 1001, 1001) in float32:

    exact     2/9 = 0.22222222..., of which the ulp is 1.5e-8
    as it is  0.22222221
    8 copies  0.22216800  0.22227648  0.22216801  0.22227648
              0.22227654  0.22216794  0.22227646  0.22233073

    copies    noise     allowed
    none      -         6.0e-8   4 * 1.5e-8: no noise is measured yet
    0         1.3e-8    1.1e-7   4 * (1.3e-8 + 1.5e-8): that of the plain run
    2         5.4e-5    2.2e-4   4 * (5.4e-5 + 1.5e-8)
    8         1.1e-4    4.3e-4   the eighth copy is furthest off
    64        1.1e-4    4.3e-4

Of four results 0.22222221 is off by 1.3e-8 and agrees at once; 0.22217 is off by 5.2e-5 and agrees after two
copies; 0.2218 is off by 4.2e-4 and agrees after eight. 0.1875, which mean(x * x) - mean(x) ** 2 gives in
float32, is off by 3.5e-2, eighty times what 64 copies allow: it is wrong.

**Two circles.** The spec's own formula, the first, is as stable as its function; many right libraries use a
formula that is not, such as 1 - y * y for the derivative of tanh, which at x = 20 gives 0 and not 1.7e-17.
So an op lists its usual formulas, too (`also`). A result within the noise of the first formula agrees;
outside of it but within that of a usual one it is *lossy*, which is counted and shown with its loss; outside
of both it is wrong. What is exact comes from the first formula alone. NaN and infinities are in neither
circle, and a sign that a usual formula never has near such inputs is not in its circle.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

from gradspec.properties.cases.case import dtype_of, exact_dtype
from gradspec.properties.judging.formula_samples import Compute, Formulas, FormulaSamples
from gradspec.properties.judging.judgement import Judgement
from gradspec.properties.judging.noise_stages import is_noise_measured_fully, list_stages
from gradspec.properties.judging.subnormals import FlushedOutcomes, is_flushing_allowed
from gradspec.properties.judging.verdict import judge_equality, reach_verdict
from gradspec.reference.rule import Array

ALLOWED_FACTOR = 4.0  # the worst of torch's right results needed 1.5, over all ops and four dtypes
JITTERED_COPY_COUNTS = (2, 8, 64)  # so many are tried, in turn, before a result is found wrong

CLEARLY_LOSSY = 16.0  # what is so many times off by the first few copies is not saved by more of them

T = TypeVar("T")


class ComputationJudge(Generic[T]):
    """Judges results of a computation by the spec's: its exact outcome, and how far rounding moves it.

    What is expensive is computed when first needed, and once.
    """

    def __init__(
        self, dtype: str, compute: Compute[T], rounds: bool = True, usual: Sequence[Compute[T]] = ()
    ) -> None:
        """Make a judge that has computed nothing yet.

        Args:
            dtype: The dtype of the results that are judged.
            compute: The computation; its argument is applied to each array of floats that it starts from.
            rounds: Whether the computation rounds at all.
            usual: The same computation by usual formulas, within whose noise a result is lossy.
        """
        self.dtype, self.compute, self.rounds = dtype, compute, rounds
        self.formulas = Formulas(dtype, compute, usual)
        self.flushed = FlushedOutcomes(dtype, [compute, *usual])

    @property
    def exact(self) -> T:
        """The outcome in higher precision."""
        return self.formulas.exact

    @cached_property
    def samples(self) -> FormulaSamples[T]:
        """The samples of the spec's formula that this judge asks for."""
        return FormulaSamples(self.formulas.sampler)

    @cached_property
    def usual_samples(self) -> list[FormulaSamples[T]]:
        """Those of each usual formula."""
        return [FormulaSamples(sampler) for sampler in self.formulas.usual_samplers]

    def compute_samples(self, copies: int) -> list[T]:
        """Return outcomes at the precision of the dtype: the plain one, then those of the jittered copies."""
        return self.samples.compute_samples(copies)

    @property
    def near_overflow(self) -> bool:
        """Whether the copies so far met numbers so large that another order of operations may overflow."""
        return self.samples.near_overflow

    def find_brink(self, exact: Array) -> Array:
        """Return where an infinity or NaN tells nothing, since another order of operations may overflow."""
        return np.full(exact.shape, self.near_overflow)

    @property
    def relative_underflow_error(self) -> float:
        """The share of a number that is lost if it passes through the smallest one the copies so far met."""
        return self.samples.relative_underflow_error

    def measure_noise(self, part: Callable[[T], Array], copies: int) -> Array:
        """Return, for each element, how far from `exact` the samples of so many jittered copies get.

        Args:
            part: What to take of an outcome.
            copies: How many jittered copies to look at, besides the plain run.
        """
        return self.samples.measure_noise(part, part(self.exact), copies)

    def measure_noise_of_any_formula(self, part: Callable[[T], Array], copies: int) -> Array:
        """Return the noise of the formula that has the most, element by element: the first or a usual one."""
        exact = part(self.exact)
        every = [s.measure_noise(part, exact, copies) for s in (self.samples, *self.usual_samples)]
        noise: Array = np.fmax.reduce(every)
        return noise

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
                backend; each of the two may then be off by what is allowed, by any formula: nothing is lossy.
            scale: The size of numbers that may have cancelled to give this part; where they are larger than
                the part, their last place counts.
        """
        exact, uncertain_sides = (part(self.exact), 1) if expected is None else (expected, 2)
        if got.shape != exact.shape:
            return Judgement(
                "disagree", f"the {what} has shape {got.shape}, expected {exact.shape}", worst=np.inf
            )
        if exact.dtype.kind in "biu":
            return judge_equality(what, self.restore_flushed(got, part), exact)
        dtype, exact = dtype_of(self.dtype), exact.astype(exact_dtype(self.dtype))
        with np.errstate(all="ignore"):
            # A number that is not finite in higher precision is not finite in the dtype.
            decidable = np.isfinite(exact.astype(dtype).astype(exact.dtype))
            wide = got.astype(exact.dtype)
            error = np.abs(wide - exact)
            error = np.where(np.isnan(error), np.inf, error)
            unit = ulp(np.maximum(np.abs(exact), scale), dtype)

            def allow(noise: Any) -> Array:
                return uncertain_sides * ALLOWED_FACTOR * (noise + unit)

            allowed = allow(0)
            may_flush = is_flushing_allowed()
            if may_flush and np.any(decidable & (error > allowed)):
                error = np.where(self._is_flushed(got, part, expected, 0), 0, error)
            is_staged = not is_noise_measured_fully()
            for copies in list_stages(JITTERED_COPY_COUNTS) if self.rounds else ():
                outside = decidable & ~(error <= allowed)
                if is_staged and not outside.any():
                    break
                is_last = is_staged and copies == max(JITTERED_COPY_COUNTS)
                if is_last and np.all((error > CLEARLY_LOSSY * allowed) | ~outside):
                    # More copies of the first formula would not reach so far.
                    usually_allowed = self._measure_usually_allowed(part, error, outside, allowed, allow)
                    if not np.any(outside & (error > usually_allowed)):
                        break
                noise = self.measure_noise(part, copies)
                decidable &= np.isfinite(noise)
                decidable &= np.isfinite(wide) | ~self.find_brink(exact)
                noise = np.where(np.isfinite(noise), noise, 0) + self.relative_underflow_error * np.abs(exact)
                allowed = allow(noise)
            if may_flush and np.any(decidable & (error > allowed)):
                copies = max(JITTERED_COPY_COUNTS) if self.rounds else 0
                error = np.where(self._is_flushed(got, part, expected, copies), 0, error)
            outside, usually_allowed = decidable & (error > allowed), allowed
            if self.rounds and outside.any() and self.usual_samples:
                widely_allowed = self._measure_usually_allowed(part, error, outside, allowed, allow)
                lossy = outside & (error <= widely_allowed)
                if expected is None:
                    lossy &= ~self._find_strange_signs(part, got, exact, lossy)
                usually_allowed = np.where(lossy, widely_allowed, allowed)
                if expected is not None:  # whether both are by a usual formula is another law's question
                    allowed = usually_allowed
        return reach_verdict(what, got, exact, error, allowed, usually_allowed, decidable)

    def restore_flushed(self, got: Array, part: Callable[[T], Array]) -> Array:
        """Return a result with the exact numbers in place of those that flushing subnormal numbers explains.

        Where the backend does not flush any, that is the result itself.

        Args:
            got: The result.
            part: What to take of an outcome.
        """
        exact = part(self.exact)
        if not is_flushing_allowed() or got.shape != exact.shape:
            return got
        with np.errstate(all="ignore"):
            # What differs little is right or wrong as ever: a few copies tell it from what was flushed.
            explained = self._is_flushed(got, part, None, JITTERED_COPY_COUNTS[0] if self.rounds else 0)
            return np.where(explained, exact.astype(got.dtype), got)

    def _is_flushed(
        self, got: Array, part: Callable[[T], Array], expected: Array | None, copies: int
    ) -> Array:
        """Return where a result, and what it is compared with, is right or explained by flushing.

        Args:
            got: The result.
            part: What to take of an outcome.
            expected: What it is compared with, if not with the exact outcome.
            copies: How many jittered copies the noise is measured on; 0 for no noise.
        """
        exact = part(self.exact)
        noise = self.measure_noise_of_any_formula(part, copies) if copies and exact.dtype.kind == "f" else 0
        noise = np.where(np.isfinite(noise), noise, 0)

        def allow(right: Array) -> Array:
            return ALLOWED_FACTOR * (noise + ulp(right, dtype_of(self.dtype)))

        results = [got] if expected is None else [got, expected]
        wide = [x if exact.dtype.kind in "biu" else x.astype(exact.dtype) for x in results]
        return np.logical_and.reduce([self.flushed.explain(x, exact, part, allow) for x in wide])

    def _measure_usually_allowed(
        self,
        part: Callable[[T], Array],
        error: Array,
        outside: Array,
        allowed: Array,
        allow: Callable[[Array], Array],
    ) -> Array:
        """Return how far off a result may be by any formula, the first or a usual one.

        Where a usual formula itself gives no finite number, it allows nothing.

        Args:
            part: What to take of an outcome.
            error: How far off the result is.
            outside: Where that is more than the first formula allows.
            allowed: What the first formula allows.
            allow: From the noise of a formula to what it allows.
        """
        exact = part(self.exact)
        for samples in self.usual_samples:
            for copies in list_stages(JITTERED_COPY_COUNTS):
                noise = samples.measure_noise(part, exact, copies)
                lost = samples.relative_underflow_error * np.abs(exact)
                allowed = np.fmax(allowed, allow(np.where(np.isfinite(noise), noise, 0) + lost))
                if not np.any(outside & (error > allowed)):
                    return allowed
        return allowed

    def _find_strange_signs(
        self, part: Callable[[T], Array], got: Array, exact: Array, lossy: Array
    ) -> Array:
        """Return where a lossy result has a sign that no usual formula gives near these inputs."""
        return np.zeros(exact.shape, np.bool_)


def ulp(exact: Array, dtype: np.dtype[Any]) -> Array:
    """Return the distance between neighbouring numbers of a dtype, at each element."""
    with np.errstate(all="ignore"):
        return np.spacing(np.abs(exact).astype(dtype)).astype(exact.dtype)
