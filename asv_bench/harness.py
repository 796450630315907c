"""What verifying costs: to judge a case of each op, to run the properties, to find a planted fault."""

from itertools import cycle
from time import process_time
from typing import Any

from asv_bench.measuring import pytest_runs, undisturbed_time
from asv_bench.measuring.any_commit import AXIS_LENGTHS, MAX_ELEMENTS, SeededChoices, pick_first_value
from asv_bench.measuring.numerical_errors import make_case
from asv_bench.measuring.timed_benchmark import TimedBenchmark
from asv_bench.workloads.faults import PROPERTY_MODULE_BY_FAULT
from asv_bench.workloads.ops_and_backends import get_backend, get_op, make_benchmark_classes

NONEMPTY_LENGTHS = tuple(n for n in AXIS_LENGTHS if n)  # gradcheck refuses empty arrays
CASES_PER_OP = 8  # judged in turn, of different shapes and ranks


class _JudgingBenchmark(TimedBenchmark):
    """The spec judged against itself in float32: what the judge costs, without Hypothesis."""

    op: str

    def setup(self) -> None:
        self.backend, self.spec = get_backend("numpy"), get_op(self.op)
        self.cases: Any = cycle([make_case(self.spec, "float32", seed) for seed in range(CASES_PER_OP)])

    def time_judging(self) -> None:
        """Time one case: the backend's value and gradients, the spec's in float64, and what is allowed."""
        from gradspec.properties.laws.gradient import every_gradient_agrees
        from gradspec.properties.laws.value import value_agrees

        law = every_gradient_agrees if self.spec.differentiable else value_agrees
        self.measure(lambda: law(self.backend, next(self.cases)), self.backend, "overhead")


class Verification(TimedBenchmark):
    """All properties of an op of the spec, run as a user runs them, in the quick profile."""

    rounds = 1  # each takes seconds: for the history, not for comparing two commits
    params = ("multiply", "softmax", "layer_norm")
    param_names = ("op",)

    def time_judged_case(self, op: str) -> None:
        """Time the run and divide by the number of cases it judged; start and Hypothesis are included."""
        run = pytest_runs.run_properties("--backend=numpy", f"--op={op}", "--hypothesis-profile=quick")
        self._elapsed_seconds += run.seconds / run.cases

    def track_share_of_hypothesis(self, op: str) -> float:
        """Return the share of the time that Hypothesis itself takes."""
        share = pytest_runs.run_properties(
            "--backend=numpy", f"--op={op}", "--hypothesis-profile=quick", use_cprofile=True
        ).hypothesis_share
        assert share is not None
        return round(share, 3)

    track_share_of_hypothesis.unit = "of the time"  # type: ignore[attr-defined]


class Finding(TimedBenchmark):
    """A wrong rule: from the start of pytest until its property reports it on the smallest case."""

    rounds = 1
    params = tuple(PROPERTY_MODULE_BY_FAULT)
    param_names = ("fault",)

    def time_until_found(self, fault: str) -> None:
        self._elapsed_seconds += self._run_until_found(fault).seconds

    def track_cases_until_found(self, fault: str) -> int:
        """Count the cases judged, shrinking included: the number is the same on every machine."""
        return self._run_until_found(fault).cases

    track_cases_until_found.unit = "cases"  # type: ignore[attr-defined]

    def _run_until_found(self, fault: str) -> pytest_runs.FinishedRun:
        backend = f"--backend=asv_bench.workloads.faults:{fault}"
        properties = f"gradspec.properties.{PROPERTY_MODULE_BY_FAULT[fault]}"
        run = pytest_runs.run_properties(backend, "--no-isolate", "-x", properties=properties)
        if run.status != pytest_runs.EXIT_TESTS_FAILED:
            raise AssertionError(f"the properties found nothing wrong with {fault}")
        return run


class BoundedSizeChoices(SeededChoices):
    """Choices of axes as the properties make them: any length, up to `MAX_ELEMENTS` elements in the array."""

    def size(self, taken: int) -> int:
        return self.of([n for n in self.lengths if n * taken <= MAX_ELEMENTS])


class Gradcheck:
    """Our judge beside torch.autograd.gradcheck in its slow mode, on the same cases of torch in float64."""

    version = "1"

    def track_lead(self) -> float:
        """Return how many cases we draw and judge while gradcheck checks one, over all ops without kinks."""
        # The first run also does what is done once in a process.
        _measure_both_seconds(1)
        ours, theirs = _measure_both_seconds(1 if undisturbed_time.IS_QUICK_RUN else 8)
        return round(theirs / ours, 1)

    track_lead.unit = "times as many"  # type: ignore[attr-defined]


def _measure_both_seconds(count: int) -> tuple[float, float]:
    """Return the CPU seconds for drawing and judging `count` cases of each op, and for gradcheck on them."""
    from gradspec.reference import OPS

    backend, ours, theirs = get_backend("torch"), 0.0, 0.0
    for name, op in ((name, pick_first_value(op)) for name, op in OPS.items()):
        if op.differentiable and op.kinks is None and name not in backend.known:
            start = process_time()
            cases = [
                make_case(op, "float64", seed, BoundedSizeChoices(seed, NONEMPTY_LENGTHS))
                for seed in range(count)
            ]
            # gradcheck refuses empty arrays
            cases = [case for case in cases if all(x.size for x in case.inputs)]
            for case in cases:
                _judge_case(backend, case)
            middle = process_time()
            for case in cases:
                _run_gradcheck(backend, case)
            ours, theirs = ours + middle - start, theirs + process_time() - middle
    return ours, theirs


def _judge_case(backend: Any, case: Any) -> None:
    from gradspec.properties.laws.gradient import every_gradient_agrees

    assert every_gradient_agrees(backend, case).verdict != "disagree", case


def _run_gradcheck(backend: Any, case: Any) -> None:
    from torch import tensor
    from torch.autograd import gradcheck

    from gradspec.backends import call

    differentiable = case.op.differentiable_arguments(len(case.inputs))
    inputs = [tensor(x, requires_grad=i in differentiable) for i, x in enumerate(case.inputs)]
    assert gradcheck(lambda *xs: call(case.op, backend.ops[case.op.name], xs, case.keywords), inputs), case


globals().update(make_benchmark_classes(__name__, _JudgingBenchmark))
