"""False alarms: the properties tried on what is right, backends that nobody has spoilt and variants that differ."""

from collections.abc import Iterator
from dataclasses import dataclass

from faults import trial
from faults.properties_of import properties, speaks_of, variants
from faults.registry import right_variants
from faults.trial import attempt, matters, seed_of
from gradspec.backends import Backend, load
from gradspec.properties.running.subject import Engine
from gradspec.reference import OPS

ENGINE = "programs"


@dataclass(frozen=True)
class Unit:
    """One property of one op of a backend or variant, or of a backend as a whole; more: which of the further arguments."""

    property: str
    argument: str
    backend: str
    op: str
    more: int = 0


@dataclass(frozen=True)
class Verdict:
    """What a unit came to with one seed; alarm: what the property said if it failed."""

    unit: Unit
    seed: int
    judged: int
    worst: float
    alarm: str | None


def implementation(name: str) -> Backend:
    """The variant of this name, or the backend."""
    return right_variants()[name].plant() if name in right_variants() else load(name)


def units(backend: str, op: str) -> Iterator[Unit]:
    """All units of an op, or of the engine, but those in which the backend says it deviates in every dtype."""
    for argument, tried in subjects(backend, op).items():
        for name in properties():
            if speaks_of(name, tried, argument) and tried.sound(name):
                yield from (Unit(name, argument, backend, op, k) for k in range(len(variants(name))))


def subjects(name: str, op: str) -> dict[str, Engine]:
    """What properties are tried on, by the argument that they take it as: of a variant the engine too, if that is made of it."""
    backend = implementation(name)
    if op in OPS and op not in backend.ops:
        return {}
    found = trial.subjects(op, backend, OPS[op] if name == "numpy" and op in OPS else None)
    if op in OPS and not (name in right_variants() and matters(op)):
        del found["engine"]
    return found


def judged(unit: Unit, seed: int) -> Verdict:
    """Try one unit with one seed."""
    tried = subjects(unit.backend, unit.op)[unit.argument]
    more = variants(unit.property)[unit.more]
    with tried.only(tried.sound(unit.property)):
        alarm = attempt(unit.property, unit.argument, tried, seed_of(unit.op, unit.property, seed), more)
    said = f"{alarm.reason}\n{tried.failure.case!r}" if alarm and tried.failure else None
    try:
        tried.require_information()
    except AssertionError as uninformed:
        said = said or str(uninformed)
    return Verdict(unit, seed, tried.tally.judged, tried.tally.worst, said)
