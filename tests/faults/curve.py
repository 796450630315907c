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

from faults import asked, shared
from faults.alarms import judged, units
from faults.measure import Piece, Report
from faults.registry import faults, right_variants
from faults.trial import tried
from gradspec.properties.judging import judge

T = TypeVar("T")

FACTORS = (1, 1.5, 2, 3, 4, 6, 8, 16)
COPIES = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Setting:
    """How far off a result may be: so many times the noise of so many copies."""

    factor: float = judge.FACTOR
    copies: int = judge.COPIES[-1]


@dataclass(frozen=True)
class Point:
    """What a setting comes to. faults, runs: how many were tried, runs being of one property on one thing that is right."""

    setting: Setting
    faults: int
    survivors: Sequence[str]
    runs: int
    alarms: Sequence[str]

    @property
    def of_variants(self) -> int:
        """How many of the false alarms are of variants, and not of an unmodified backend."""
        return sum(alarm.split(" | ")[0] in right_variants() for alarm in self.alarms)


SETTINGS = (
    [Setting(factor=f) for f in FACTORS],
    [Setting(copies=k) for k in COPIES],
)
"""Two curves, each from the narrowest tolerance to the widest."""


@contextmanager
def tolerance(setting: Setting) -> Iterator[None]:
    """Within this context the judge allows so much."""
    k = setting.copies
    numbers = {"FACTOR": setting.factor, "COPIES": (*(min(c, k) for c in judge.COPIES[:-1]), k)}
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            for number, given in numbers.items():
                if name.startswith("gradspec.properties.") and hasattr(module, number):
                    stack.enter_context(mock.patch.object(module, number, given))
        yield


def walk(piece: Piece, settings: Sequence[Setting]) -> list[Point]:
    """What the settings come to for one op and seed; a task of a worker."""
    asked.forget()
    runs = [unit for name in piece.right for unit in units(name, piece.op)]
    survivors: Mapping[Setting, list[str]] = _kept(
        list(piece.wrong), settings[::-1], lambda name: not tried(faults()[name], piece.seed)
    )
    alarms = _kept(runs, settings, lambda unit: judged(unit, piece.seed).alarm is not None)
    return [
        Point(
            setting,
            len(piece.wrong),
            survivors[setting],
            len(runs),
            [f"{unit.backend} | {unit.op} | {unit.property}" for unit in alarms[setting]],
        )
        for setting in settings
    ]


def _kept(things: list[T], settings: Sequence[Setting], holds: Callable[[T], bool]) -> dict[Setting, list[T]]:
    """Those for which it holds at each setting, tried only if it held at the one before."""
    found = {}
    for setting in settings:
        shared.forget()
        with tolerance(setting):
            found[setting] = things = [thing for thing in things if holds(thing)]
    return found


def curve(pool: Executor, pieces: Sequence[Piece], report: Report) -> list[list[Point]]:
    """For each of the two curves its points, all pieces together."""
    tasks = {pool.submit(walk, piece, settings): i for piece in pieces for i, settings in enumerate(SETTINGS)}
    parts: list[list[list[Point]]] = [[] for _ in SETTINGS]
    for n, task in enumerate(as_completed(tasks), 1):
        parts[tasks[task]].append(task.result())
        report(f"{n:,} of {len(tasks):,} pieces of the curve")
    return [[_sum(points) for points in zip(*part, strict=True)] for part in parts]


def _sum(points: Sequence[Point]) -> Point:
    return Point(
        points[0].setting,
        sum(p.faults for p in points),
        [name for p in points for name in p.survivors],
        sum(p.runs for p in points),
        [name for p in points for name in p.alarms],
    )


def as_json(curves: Sequence[Sequence[Point]]) -> list[list[dict[str, Any]]]:
    return [[asdict(point) for point in points] for points in curves]
