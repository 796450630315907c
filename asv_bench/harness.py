"""What it costs to verify: a judged case of each op, a run of the properties, the time until a planted fault is found."""

from itertools import cycle
from time import process_time
from typing import Any

from asv_bench import clock, runs
from asv_bench.errors import case_of
from asv_bench.faults import FAULTS
from asv_bench.subjects import backend_named, op_named, per_op
from asv_bench.timed import Timed

SHARE = 4  # of the cases, one in so many is enough to know what gradcheck takes
CASES = 8  # judged in turn: of different shapes and ranks


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


class Gradcheck:
    """Side by side with torch.autograd.gradcheck in its slow mode, on the same cases of torch in float64."""

    def track_lead(self) -> float:
        """Cases of all ops that are drawn and judged in the time that gradcheck takes for one."""
        from gradspec.reference import OPS

        backend, ours, theirs = backend_named("torch"), 0.0, 0.0
        for name, op in OPS.items():
            if op.differentiable and name not in backend.known:
                start = process_time()
                drawn = _drawn(op)
                for case in drawn:
                    _judged(backend, case)
                ours += process_time() - start
                start, some = process_time(), drawn[::SHARE]
                for case in some:
                    _checked(backend, case)
                theirs += (process_time() - start) * len(drawn) / (len(some) or 1)
        return round(theirs / ours, 1)

    track_lead.unit = "times as many"  # type: ignore[attr-defined]


def _drawn(op: Any) -> list[Any]:
    """What the properties would draw, but for arrays without elements, which gradcheck refuses."""
    from hypothesis import HealthCheck, Phase, given, settings

    from gradspec.properties.generating.strategies import cases

    found: list[Any] = []

    @settings(
        max_examples=1 if clock.QUICK else 18,  # as the default profile
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(op, ["float64"], 6, True))
    def draw(some: list[Any]) -> None:
        found.extend(case for case in some if all(x.size for x in case.inputs))

    draw()
    return found


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
