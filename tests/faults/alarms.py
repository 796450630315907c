"""False alarms: the properties tried on backends that nobody has spoilt."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from faults import trial
from faults.properties_of import properties, speaks_of, variants
from faults.trial import attempt
from gradspec.backends import load
from gradspec.properties.running.subject import Engine
from gradspec.reference import OPS


@dataclass(frozen=True)
class Unit:
    """One property of one op of a backend, or of the backend as a whole; variant: which of the further arguments."""

    property: str
    argument: str
    backend: str
    op: str
    variant: int = 0


@dataclass(frozen=True)
class Verdict:
    """What a unit came to with one seed; alarm: what the property said if it failed."""

    unit: Unit
    seed: int
    judged: int
    worst: float
    alarm: str | None


def units(backend: str) -> Iterator[Unit]:
    """All units of a backend, but those that it says deviate."""
    for op in ("programs", *(op for op in OPS if op in load(backend).ops)):
        for argument, tried in subjects(backend, op).items():
            for name in properties():
                if speaks_of(name, tried, argument) and tried.deviation(name) is None:
                    yield from (Unit(name, argument, backend, op, k) for k in range(len(variants(name))))


def subjects(name: str, op: str) -> dict[str, Engine]:
    """What properties are tried on, by the argument that they take it as."""
    spec = OPS[op] if name == "numpy" and op in OPS else None
    found = trial.subjects(op, load(name), spec)
    return {argument: tried for argument, tried in found.items() if (argument == "engine") == (op not in OPS)}


def judged(unit: Unit, seed: int) -> Verdict:
    """Try one unit with one seed."""
    tried = subjects(unit.backend, unit.op)[unit.argument]
    more = variants(unit.property)[unit.variant]
    found = attempt(unit.property, unit.argument, tried, zlib.crc32(f"{seed} {unit}".encode()), more)
    case = f"{tried.failure.case!r}" if found and tried.failure else ""
    return Verdict(
        unit, seed, tried.tally.judged, tried.tally.worst, f"{found.reason}\n{case}" if found else None
    )
