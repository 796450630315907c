"""False alarms: the properties tried on what is right, backends that nobody has spoilt and variants that differ."""

from collections.abc import Iterator
from dataclasses import dataclass

from gradspec.backends import Backend, load
from gradspec.properties.running.targets import BackendUnderTest
from gradspec.reference import OPS
from tests.faults import detection
from tests.faults.collected_properties import applies_to, list_parameter_sets, properties
from tests.faults.detection import derive_seed, is_in_programs, run_property
from tests.faults.registry import right_variants

OP_OF_PROGRAMS = "programs"


@dataclass(frozen=True)
class Trial:
    """One property of one op of a backend or variant, or of a backend as a whole; more: which of the further arguments."""

    property: str
    argument: str
    backend: str
    op: str
    parameter_set: int = 0


@dataclass(frozen=True)
class TrialResult:
    """What a unit came to with one seed; alarm: what the property said if it failed."""

    trial: Trial
    seed: int
    judged_cases: int
    max_error_share: float
    alarm: str | None


def load_backend_or_variant(name: str) -> Backend:
    """The variant of this name, or the backend."""
    return right_variants()[name].plant() if name in right_variants() else load(name)


def list_trials(backend: str, op: str) -> Iterator[Trial]:
    """All units of an op, or of the engine, but those in which the backend says it deviates in every dtype."""
    for argument, tried in load_under_test(backend, op).items():
        for name in properties():
            if applies_to(name, tried, argument) and tried.list_sound_dtypes(name):
                yield from (
                    Trial(name, argument, backend, op, k) for k in range(len(list_parameter_sets(name)))
                )


def load_under_test(name: str, op: str) -> dict[str, BackendUnderTest]:
    """What properties are tried on, by the argument that they take it as: of a variant the engine too, if that is made of it."""
    backend = load_backend_or_variant(name)
    if op in OPS and op not in backend.ops:
        return {}
    found = detection.make_under_test(op, backend, OPS[op] if name == "numpy" and op in OPS else None)
    if op in OPS and not (name in right_variants() and is_in_programs(op)):
        del found["backend_under_test"]
    return found


def run_trial(trial: Trial, seed: int) -> TrialResult:
    """Try one unit with one seed."""
    tried = load_under_test(trial.backend, trial.op)[trial.argument]
    more = list_parameter_sets(trial.property)[trial.parameter_set]
    with tried.restrict_dtypes(tried.list_sound_dtypes(trial.property)):
        alarm = run_property(
            trial.property,
            trial.argument,
            tried,
            derive_seed(trial.op, trial.property, seed),
            more,
        )
    said = f"{alarm.reason}\n{tried.failure.case!r}" if alarm and tried.failure else None
    try:
        tried.require_informative_cases()
    except AssertionError as uninformed:
        said = said or str(uninformed)
    return TrialResult(trial, seed, tried.tally.judged, tried.tally.worst, said)
