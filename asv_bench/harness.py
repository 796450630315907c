"""What it costs to verify: a judged case of each op, a run of the properties, the time until a planted fault is found."""

from itertools import cycle
from time import process_time
from typing import Any

from asv_bench import clock, runs
from asv_bench.errors import case_of
from asv_bench.faults import FAULTS
from asv_bench.subjects import backend_named, op_named, per_op
from asv_bench.timed import Timed
from gradspec.reference.cases import Seeded

CASES = 8  # judged in turn: of different shapes and ranks
SIZES = 1, 2, 3, 4, 5, 7, 8, 17, 33
ROOM = 300  # elements, as in what the properties draw


class _Op(Timed):
    """Of the spec against itself, in float32: what the judge costs, without Hypothesis."""

    op: str

    def setup(self) -> None:
        self.backend, self.spec = backend_named("numpy"), op_named(self.op)
        self.cases: Any = cycle([case_of(self.spec, "float32", seed) for seed in range(CASES)])

    def time_judging(self) -> None:
        """One case: the backend's value and gradients, the spec's in float64, and what is allowed."""
        from gradspec.properties.laws.gradient import every_gradient_agrees
        from gradspec.properties.laws.value import value_agrees

        law = every_gradient_agrees if self.spec.differentiable else value_agrees
        self.measure(lambda: law(self.backend, next(self.cases)), self.backend, "overhead")


class Verification(Timed):
    """All properties of an op of the spec, started as a user would, in the quick profile."""

    rounds = 1  # of seconds each: to be seen over the history, not to compare two commits by
    params = ("multiply", "softmax", "layer_norm")
    param_names = ("op",)

    def time_judged_case(self, op: str) -> None:
        """Seconds of the run for each case that it judged, start and Hypothesis included."""
        ran = runs.verify("--backend=numpy", f"--op={op}", "--hypothesis-profile=quick")
        self._elapsed += ran.seconds / ran.cases

    def track_share_of_hypothesis(self, op: str) -> float:
        """The share of the time that Hypothesis itself takes."""
        share = runs.verify(
            "--backend=numpy", f"--op={op}", "--hypothesis-profile=quick", profiled=True
        ).hypothesis
        assert share is not None
        return round(share, 3)

    track_share_of_hypothesis.unit = "of the time"  # type: ignore[attr-defined]


class Finding(Timed):
    """A wrong rule, from the start of pytest until the property that is there for it reports it on its smallest case."""

    rounds = 1
    params = tuple(FAULTS)
    param_names = ("fault",)

    def time_until_found(self, fault: str) -> None:
        self._elapsed += self._found(fault).seconds

    def track_cases_until_found(self, fault: str) -> int:
        """Cases judged before, those on the way to the smallest one included: the same on every machine."""
        return self._found(fault).cases

    track_cases_until_found.unit = "cases"  # type: ignore[attr-defined]

    def _found(self, fault: str) -> runs.Ran:
        backend = f"--backend=asv_bench.faults:{fault}"
        ran = runs.verify(backend, "--no-isolate", "-x", properties=f"gradspec.properties.{FAULTS[fault]}")
        if ran.status != runs.FOUND:
            raise AssertionError(f"the properties found nothing wrong with {fault}")
        return ran


class Roomy(Seeded):
    """Chooses axes as the properties do: of any length, as long as the array has no more than `ROOM` elements."""

    def size(self, taken: int) -> int:
        return self.of([n for n in self.lengths if n * taken <= ROOM])


class Gradcheck:
    """Side by side with torch.autograd.gradcheck in its slow mode, on the same cases of torch in float64."""

    def track_lead(self) -> float:
        """Cases of all ops without kinks that are drawn and judged in the time that gradcheck takes for one."""
        _side_by_side(1)  # what is done once in a process
        ours, theirs = _side_by_side(1 if clock.QUICK else 8)
        return round(theirs / ours, 1)

    track_lead.unit = "times as many"  # type: ignore[attr-defined]


def _side_by_side(count: int) -> tuple[float, float]:
    """Seconds of the processor for drawing and judging so many cases of each op, and for gradcheck on them."""
    from gradspec.reference import OPS

    backend, ours, theirs = backend_named("torch"), 0.0, 0.0
    for name, op in OPS.items():
        if op.differentiable and op.kinks is None and name not in backend.known:
            start = process_time()
            cases = [case_of(op, "float64", seed, Roomy(seed, SIZES)) for seed in range(count)]
            cases = [case for case in cases if all(x.size for x in case.inputs)]  # or gradcheck refuses
            for case in cases:
                _judged(backend, case)
            middle = process_time()
            for case in cases:
                _checked(backend, case)
            ours, theirs = ours + middle - start, theirs + process_time() - middle
    return ours, theirs


def _judged(backend: Any, case: Any) -> None:
    from gradspec.properties.laws.gradient import every_gradient_agrees

    assert every_gradient_agrees(backend, case).verdict != "disagree", case


def _checked(backend: Any, case: Any) -> None:
    from torch import tensor
    from torch.autograd import gradcheck

    from gradspec.backends import call

    inputs = [tensor(x, requires_grad=i in case.differentiable) for i, x in enumerate(case.inputs)]
    assert gradcheck(lambda *xs: call(case.op, backend.ops[case.op.name], xs, case.keywords), inputs), case


globals().update(per_op(__name__, _Op))
