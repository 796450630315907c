"""Curves over the judge's two numbers that are chosen and not computed: how other choices would do.

Wider tolerances let more faults through, narrower ones fail more of what is right. A verdict depends on the
tolerance in one direction only: a fault detected at the widest need not be tried at the others, nor a trial
that passes at the narrowest.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar
from unittest import mock

from gradspec.properties.judging import judge
from tests.faults import drawn_cases, judge_cache
from tests.faults.alarms import list_trials, run_trial
from tests.faults.detection import detect_fault
from tests.faults.measurement import OpTask, ReportProgress
from tests.faults.registry import faults, right_variants

T = TypeVar("T")

FACTORS = (1, 1.5, 2, 3, 4, 6, 8, 16)
COPY_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Tolerance:
    """How far off a result may be: `factor` times the noise of `copies` jittered copies."""

    factor: float = judge.ALLOWED_FACTOR
    copies: int = judge.JITTERED_COPY_COUNTS[-1]


@dataclass(frozen=True)
class CurvePoint:
    """The counts at one tolerance.

    Args:
        tolerance: The tolerance.
        faults: How many faults were tried.
        survivors: The names of those that no property detected.
        runs: How many trials of what is right were run, each of one property on one backend or variant.
        alarms: Those that failed, each as "backend | op | property".
    """

    tolerance: Tolerance
    faults: int
    survivors: Sequence[str]
    runs: int
    alarms: Sequence[str]

    @property
    def variant_alarm_count(self) -> int:
        """How many of the false alarms are about variants and not about an unmodified backend."""
        return sum(alarm.split(" | ")[0] in right_variants() for alarm in self.alarms)


TOLERANCES_OF_EACH_CURVE = [Tolerance(factor=f) for f in FACTORS], [Tolerance(copies=k) for k in COPY_COUNTS]
"""The tolerances of the two curves, each from the narrowest to the widest."""


@contextmanager
def use_tolerance(tolerance: Tolerance) -> Iterator[None]:
    """Within this context the judge has this tolerance."""
    k = tolerance.copies
    numbers = {
        "ALLOWED_FACTOR": tolerance.factor,
        "JITTERED_COPY_COUNTS": (*(min(c, k) for c in judge.JITTERED_COPY_COUNTS[:-1]), k),
    }
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            for constant, number in numbers.items():
                if name.startswith("gradspec.properties.") and hasattr(module, constant):
                    stack.enter_context(mock.patch.object(module, constant, number))
        yield


def measure_points(task: OpTask, tolerances: Sequence[Tolerance]) -> list[CurvePoint]:
    """Return the points at these tolerances for one op and seed; called in a worker."""
    drawn_cases.clear_cache()
    trials = [trial for name in task.backends for trial in list_trials(name, task.op)]
    survivors: Mapping[Tolerance, list[str]] = _filter_at_each_tolerance(
        list(task.faults), tolerances[::-1], lambda name: not detect_fault(faults()[name], task.seed)
    )
    alarms = _filter_at_each_tolerance(
        trials, tolerances, lambda trial: run_trial(trial, task.seed).alarm is not None
    )
    return [
        CurvePoint(
            tolerance,
            len(task.faults),
            survivors[tolerance],
            len(trials),
            [f"{trial.backend} | {trial.op} | {trial.property}" for trial in alarms[tolerance]],
        )
        for tolerance in tolerances
    ]


def _filter_at_each_tolerance(
    things: list[T], tolerances: Sequence[Tolerance], holds: Callable[[T], bool]
) -> dict[Tolerance, list[T]]:
    """Return the things for which `holds` is true, by tolerance; each must have passed the one before."""
    result = {}
    for tolerance in tolerances:
        judge_cache.clear_cache()
        with use_tolerance(tolerance):
            result[tolerance] = things = [thing for thing in things if holds(thing)]
    return result


def measure_curves(
    pool: Executor, op_tasks: Sequence[OpTask], report: ReportProgress
) -> list[list[CurvePoint]]:
    """Return the points of each of the two curves, summed over all tasks."""
    futures = {
        pool.submit(measure_points, task, tolerances): i
        for task in op_tasks
        for i, tolerances in enumerate(TOLERANCES_OF_EACH_CURVE)
    }
    parts: list[list[list[CurvePoint]]] = [[] for _ in TOLERANCES_OF_EACH_CURVE]
    for n, future in enumerate(as_completed(futures), 1):
        parts[futures[future]].append(future.result())
        report(f"{n:,} of {len(futures):,} tasks of the curves")
    return [[_add_points(points) for points in zip(*part, strict=True)] for part in parts]


def _add_points(points: Sequence[CurvePoint]) -> CurvePoint:
    return CurvePoint(
        points[0].tolerance,
        sum(p.faults for p in points),
        [name for p in points for name in p.survivors],
        sum(p.runs for p in points),
        [name for p in points for name in p.alarms],
    )


def as_json(curves: Sequence[Sequence[CurvePoint]]) -> list[list[dict[str, Any]]]:
    return [[asdict(point) for point in points] for points in curves]
