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

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np

from gradspec.backends import Backend, load
from gradspec.properties.cases.case import Case, dtype_of, exact_dtype
from gradspec.properties.cases.evaluate import Result, run_spec
from gradspec.properties.cases.kinks import iterate_kink_sides
from gradspec.properties.judging.formula_samples import (
    OVERFLOW_HEADROOM,
    Compute,
    ConvertToPrecision,
    FormulaSamples,
    compute_quietly,
)
from gradspec.properties.judging.judgement import (
    Judgement,
    Verdict,
    WrongElement,
    combine_judgements,
)
from gradspec.properties.judging.noise_stages import is_noise_measured_fully, list_stages
from gradspec.properties.judging.subnormals import FlushedOutcomes, is_flushing_allowed
from gradspec.reference import OPS, Op
from gradspec.reference.dispatch import use_forms
from gradspec.reference.rule import Array

__all__ = [
    "ALLOWED_FACTOR", "JITTERED_COPY_COUNTS", "OVERFLOW_HEADROOM", "SPEC_BACKEND", "ComputationJudge",
    "Judge", "Judgement", "Verdict", "combine_judgements", "get_spec_backend", "make_spec_judge", "ulp",
]  # fmt: skip

ALLOWED_FACTOR = 4.0  # the worst of torch's right results needed 1.5, over all ops and four dtypes
JITTERED_COPY_COUNTS = (2, 8, 64)  # so many are tried, in turn, before a result is found wrong

CLEARLY_LOSSY = 16.0  # so many times off by the first few copies, a result is not right by more of them

SIDES_OF_FLUSHED = 8
"""So many sides of a kink are tried on which inputs lie that count as zero."""

NEIGHBOURS = 64  # inputs near those of a case on which the signs of a usual formula are looked at
NEIGHBOUR_DISTANCE = 2.0**-10  # relative: far enough that its roundings differ, near enough to be alike

SPEC_BACKEND = load("numpy")  # the spec as a backend, for laws about more than one op

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
        self.samples = FormulaSamples(dtype, compute)
        self.usual_samples = [FormulaSamples(dtype, usual_compute) for usual_compute in usual]
        self.flushed = FlushedOutcomes(dtype, [compute, *usual])

    @cached_property
    def exact(self) -> T:
        """The outcome in higher precision."""
        return compute_quietly(self.compute, lambda x: x.astype(exact_dtype(self.dtype)))

    def compute_samples(self, copies: int) -> list[T]:
        """Return outcomes at the precision of the dtype: the plain one, then those of the jittered copies."""
        return self.samples.compute_samples(copies)

    @property
    def near_overflow(self) -> bool:
        """Whether the copies so far met numbers so large that another order of operations may overflow."""
        return self.samples.near_overflow

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
            return _judge_equality(what, self.restore_flushed(got, part), exact)
        dtype, exact = dtype_of(self.dtype), exact.astype(exact_dtype(self.dtype))
        with np.errstate(all="ignore"):
            decidable = np.isfinite(exact) & np.isfinite(exact.astype(dtype).astype(exact.dtype))
            error = np.abs(got.astype(exact.dtype) - exact)
            error = np.where(np.isnan(error), np.inf, error)
            unit = ulp(np.maximum(np.abs(exact), scale), dtype)

            def allow(noise: Any) -> Array:
                return uncertain_sides * ALLOWED_FACTOR * (noise + unit)

            allowed = allow(0)
            if is_flushing_allowed() and np.any(decidable & (error > allowed)):
                error = np.where(self._is_flushed(got, part, expected, 0), 0, error)
            is_staged = not is_noise_measured_fully()
            for copies in list_stages(JITTERED_COPY_COUNTS) if self.rounds else ():
                if is_staged and np.all((error <= allowed) | ~decidable):
                    break
                outside = decidable & (error > allowed)
                is_last = is_staged and copies == max(JITTERED_COPY_COUNTS)
                if is_last and np.all((error > CLEARLY_LOSSY * allowed) | ~outside):
                    # More copies of the first formula would not reach so far.
                    wide = self._measure_usually_allowed(part, error, outside, allowed, allow)
                    if not np.any(outside & (error > wide)):
                        break
                noise = self.measure_noise(part, copies)
                decidable &= np.isfinite(noise)
                if self.near_overflow:
                    decidable &= np.isfinite(got.astype(exact.dtype))
                noise = np.where(np.isfinite(noise), noise, 0) + self.relative_underflow_error * np.abs(exact)
                allowed = allow(noise)
            if is_flushing_allowed() and np.any(decidable & (error > allowed)):
                copies = max(JITTERED_COPY_COUNTS) if self.rounds else 0
                error = np.where(self._is_flushed(got, part, expected, copies), 0, error)
            outside, usually_allowed = decidable & (error > allowed), allowed
            if np.any(outside) and self.rounds and self.usual_samples:
                wide = self._measure_usually_allowed(part, error, outside, allowed, allow)
                lossy = outside & (error <= wide)
                if expected is None:
                    lossy &= ~self._find_strange_signs(part, got, exact, lossy)
                usually_allowed = np.where(lossy, wide, allowed)
                if expected is not None:  # whether both are by a usual formula is another law's question
                    allowed = usually_allowed
        return _reach_verdict(what, got, exact, error, allowed, usually_allowed, decidable)

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


class Judge(ComputationJudge[Result]):
    """Judges the value and the gradients of one case."""

    def __init__(self, case: Case) -> None:
        super().__init__(
            case.dtype,
            _make_computation(case),
            case.op.differentiable,
            [_make_computation(replace(case, op=form)) for form in case.op.usual_forms],
        )
        self.case = case
        self.flushed.compute_sides = self._differentiate_on_sides

    def judge_value(self, got: Array) -> Judgement:
        """Judge whether `got` is the value of the case."""
        return self.judge("value", got, lambda r: r.value)

    def judge_gradient(self, argument: str, got: Array) -> Judgement:
        """Judge whether `got` is the gradient of this argument."""
        return self.judge(f"gradient of {argument}", got, lambda r: r.gradients[argument])

    def judge_gradients(self, got: dict[str, Array]) -> Judgement:
        """Judge whether every gradient, by argument, is right."""
        return combine_judgements([self.judge_gradient(name, d) for name, d in got.items()])

    def _differentiate_on_sides(self, flush: ConvertToPrecision) -> list[Result]:
        """Return the spec's results on the sides of the kinks that inputs are on only if they are flushed."""
        flushed = self.case.map_float_arrays(flush)
        distances = zip(flushed.compute_kink_distances(), self.case.compute_kink_distances(), strict=True)
        if not any(np.any((now == 0) & (before != 0)) for now, before in distances):
            return []
        return [run_spec(side) for side in islice(iterate_kink_sides(flushed), SIDES_OF_FLUSHED)]

    def _find_strange_signs(
        self, part: Callable[[Result], Array], got: Array, exact: Array, lossy: Array
    ) -> Array:
        """Return where a lossy result has a sign that no usual formula gives near these inputs.

        Asked of elementwise ops alone, whose elements are looked at one by one: where elements are combined,
        cancellation may leave either sign.
        """
        strange = lossy & (np.sign(got.astype(exact.dtype)) * np.sign(exact) < 0)
        if not (self.case.op.elementwise and np.any(strange)):
            return np.zeros(exact.shape, np.bool_)
        forms = [replace(self.case, op=form) for form in self.case.op.usual_forms]
        for seed in range(NEIGHBOURS):
            rng = np.random.default_rng(seed)

            def move(x: Array, rng: np.random.Generator = rng) -> Array:
                wide = x.astype(np.float32) if x.itemsize == 2 else x
                return (wide * (1 + NEIGHBOUR_DISTANCE * rng.uniform(-1, 1, x.shape))).astype(wide.dtype)

            for form in forms:
                neighbour = part(compute_quietly(_make_computation(form), move))
                strange &= np.sign(neighbour) != np.sign(got.astype(exact.dtype))
        return strange


def make_spec_judge(
    dtype: str, compute: Callable[[Backend, ConvertToPrecision], T], names: Collection[str]
) -> ComputationJudge[T]:
    """Return a judge of a computation on the spec as a backend, for laws about more than one call of an op.

    Args:
        dtype: The dtype of the results that are judged.
        compute: The computation: of a backend, and of what is applied to each array it starts from.
        names: The ops whose usual formulas count.
    """
    stable, *usual = [
        partial(compute, spec) for spec in (get_spec_backend(), *_list_usual_spec_backends(names))
    ]
    return ComputationJudge(dtype, stable, usual=usual)


def get_spec_backend() -> Backend:
    """Return the spec as a backend, with the ops that were added to it since it was loaded."""
    return SPEC_BACKEND if SPEC_BACKEND.ops.keys() == OPS.keys() else replace(SPEC_BACKEND, ops=OPS)


def _list_usual_spec_backends(names: Collection[str]) -> list[Backend]:
    """Return the spec with usual formulas in place of the stable ones, for laws about more than one op.

    Args:
        names: The ops that get their usual formulas. There are as many backends as the one with the most
            has; an op with fewer keeps its last.
    """
    forms = {name: OPS[name].usual_forms for name in names if name in OPS and OPS[name].usual_forms}
    count = max(map(len, forms.values()), default=0)
    return [
        _make_spec_backend({name: each[min(k, len(each) - 1)] for name, each in forms.items()})
        for k in range(count)
    ]


def _make_spec_backend(forms: Mapping[str, Op]) -> Backend:
    """Return the spec with these forms of ops, in its derivatives too."""

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        with use_forms(forms):
            value, pullback = SPEC_BACKEND.vjp(fn, *inputs)

        def pull(g: Any) -> Any:
            with use_forms(forms):
                return pullback(g)

        return value, pull

    return replace(SPEC_BACKEND, ops={**OPS, **forms}, vjp=vjp)


def ulp(exact: Array, dtype: np.dtype[Any]) -> Array:
    """Return the distance between neighbouring numbers of a dtype, at each element."""
    with np.errstate(all="ignore"):
        return np.spacing(np.abs(exact).astype(dtype)).astype(exact.dtype)


def _make_computation(case: Case) -> Compute[Result]:
    return lambda convert: run_spec(case.map_float_arrays(convert))


def _reach_verdict(
    what: str,
    got: Array,
    exact: Array,
    error: Array,
    allowed: Array,
    usually_allowed: Array,
    decidable: Array,
) -> Judgement:
    """Return the judgement of a result, given what the first formula and what any formula allows."""
    with np.errstate(all="ignore"):
        ratio = np.where(decidable, error / usually_allowed, 0)
        losses = np.where(decidable, error / allowed, 0)
    worst, loss = float(np.max(ratio, initial=0)), float(np.max(losses, initial=0))
    is_told = decidable & ((usually_allowed < np.abs(exact)) | (exact == 0))
    counts: dict[str, Any] = {
        "worst": worst,
        "informative": bool(np.any(is_told & (exact != 0))),
        "elements": exact.size,
        "undecidable_elements": exact.size - int(np.count_nonzero(is_told)),
    }
    if worst > 1:
        where = _describe_element(what, got, exact, ratio)
        at = np.unravel_index(np.argmax(ratio), ratio.shape)
        off = f"allowed to be off by {float(usually_allowed[at]):.3g}, is off by {float(error[at]):.3g}"
        wrong = _find_wrong_element(what, got, exact, ratio)
        return Judgement("disagree", f"{where}, {off}", **{**counts, "informative": True}, wrong=wrong)
    if loss > 1:
        where = _describe_element(what, got, exact, losses)
        off = f"off by {loss:.3g} times what the stable formula allows, as a usual one may be"
        wrong = _find_wrong_element(what, got, exact, losses)
        return Judgement("lossy", f"{where}, {off}", loss=loss, **counts, wrong=wrong)
    if counts["informative"]:
        return Judgement("agree", **counts)
    if not np.all(decidable):
        return Judgement("undecidable", f"the {what} overflows at this precision", **counts)
    if np.any(exact):
        return Judgement("undecidable", f"the allowed distance of the {what} is too wide to tell", **counts)
    return Judgement("agree", f"the {what} is zero throughout", **counts)


def _describe_element(what: str, got: Array, exact: Array, ratio: Array) -> str:
    """Return in words what the result and the exact number are where the ratio is largest."""
    wrong = _find_wrong_element(what, got, exact, ratio)
    return (
        f"the {what}{f' at {wrong.at}' if wrong.at else ''} is {wrong.got:.9g}, expected {wrong.expected:.9g}"
    )


def _find_wrong_element(what: str, got: Array, exact: Array, ratio: Array) -> WrongElement:
    """Return the result and the exact number where the ratio is largest."""
    at = tuple(map(int, np.unravel_index(np.argmax(ratio), ratio.shape)))
    return WrongElement(what, at, float(got[at]), float(exact[at]))


def _judge_equality(what: str, got: Array, exact: Array) -> Judgement:
    wrong = np.argwhere(got != exact)
    if len(wrong):
        at = tuple(map(int, wrong[0]))
        reason = f"the {what} at {at} is {got[at]}, expected {exact[at]}, exactly"
        wrong_element = WrongElement(what, at, float(got[at]), float(exact[at]))
        return Judgement("disagree", reason, worst=np.inf, wrong=wrong_element)
    return Judgement("agree", informative=exact.size > 0, elements=exact.size)
