"""The two numbers of the judge that are chosen and not computed, and what comes of choosing them otherwise.

Wider tolerances let more faults through, narrower ones fail more of what is right. A verdict depends on the tolerance in one
direction only, so that a fault found at the widest need not be tried at the others, nor what passes at the narrowest.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar
from unittest import mock

from gradspec.properties.judging import judge
from tests.faults import drawn_cases, shared_measures
from tests.faults.alarms import list_trials, run_trial
from tests.faults.detection import detect_fault
from tests.faults.measurement import OpTask, ReportProgress
from tests.faults.registry import faults, right_variants

T = TypeVar("T")

FACTORS = (1, 1.5, 2, 3, 4, 6, 8, 16)
COPY_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Tolerance:
    """How far off a result may be: so many times the noise of so many copies."""

    factor: float = judge.FACTOR
    copies: int = judge.JITTERED_COPIES[-1]


@dataclass(frozen=True)
class CurvePoint:
    """What a setting comes to. faults, runs: how many were tried, runs being of one property on one thing that is right."""

    tolerance: Tolerance
    faults: int
    survivors: Sequence[str]
    runs: int
    alarms: Sequence[str]

    @property
    def variant_alarm_count(self) -> int:
        """How many of the false alarms are of variants, and not of an unmodified backend."""
        return sum(alarm.split(" | ")[0] in right_variants() for alarm in self.alarms)


CURVE_TOLERANCES = (
    [Tolerance(factor=f) for f in FACTORS],
    [Tolerance(copies=k) for k in COPY_COUNTS],
)
"""Two curves, each from the narrowest tolerance to the widest."""


@contextmanager
def use_tolerance(tolerance: Tolerance) -> Iterator[None]:
    """Within this context the judge allows so much."""
    k = tolerance.copies
    numbers = {
        "FACTOR": tolerance.factor,
        "JITTERED_COPIES": (*(min(c, k) for c in judge.JITTERED_COPIES[:-1]), k),
    }
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            for number, given in numbers.items():
                if name.startswith("gradspec.properties.") and hasattr(module, number):
                    stack.enter_context(mock.patch.object(module, number, given))
        yield


def measure_points(task: OpTask, tolerances: Sequence[Tolerance]) -> list[CurvePoint]:
    """What the settings come to for one op and seed; a task of a worker."""
    drawn_cases.clear_cache()
    runs = [unit for name in task.backends for unit in list_trials(name, task.op)]
    survivors: Mapping[Tolerance, list[str]] = _filter_at_each_tolerance(
        list(task.faults), tolerances[::-1], lambda name: not detect_fault(faults()[name], task.seed)
    )
    alarms = _filter_at_each_tolerance(
        runs, tolerances, lambda unit: run_trial(unit, task.seed).alarm is not None
    )
    return [
        CurvePoint(
            setting,
            len(task.faults),
            survivors[setting],
            len(runs),
            [f"{unit.backend} | {unit.op} | {unit.property}" for unit in alarms[setting]],
        )
        for setting in tolerances
    ]


def _filter_at_each_tolerance(
    things: list[T], tolerances: Sequence[Tolerance], holds: Callable[[T], bool]
) -> dict[Tolerance, list[T]]:
    """Those for which it holds at each setting, tried only if it held at the one before."""
    found = {}
    for setting in tolerances:
        shared_measures.clear_cache()
        with use_tolerance(setting):
            found[setting] = things = [thing for thing in things if holds(thing)]
    return found


def measure_curves(
    pool: Executor, op_tasks: Sequence[OpTask], report: ReportProgress
) -> list[list[CurvePoint]]:
    """For each of the two curves its points, all pieces together."""
    tasks = {
        pool.submit(measure_points, piece, settings): i
        for piece in op_tasks
        for i, settings in enumerate(CURVE_TOLERANCES)
    }
    parts: list[list[list[CurvePoint]]] = [[] for _ in CURVE_TOLERANCES]
    for n, task in enumerate(as_completed(tasks), 1):
        parts[tasks[task]].append(task.result())
        report(f"{n:,} of {len(tasks):,} pieces of the curve")
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
