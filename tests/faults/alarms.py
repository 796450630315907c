"""False alarms: the properties tried on what is right, on unmodified backends and on variants."""

from collections.abc import Iterator
from dataclasses import dataclass

from gradspec.backends import Backend, load
from gradspec.properties.running.perform_property import derive_seed
from gradspec.properties.running.targets import BackendUnderTest
from gradspec.reference import OPS
from tests.faults import detection
from tests.faults.collected_properties import applies_to, list_parameter_sets, properties
from tests.faults.detection import is_in_programs, run_property
from tests.faults.registry import right_variants


@dataclass(frozen=True)
class Trial:
    """One property on one op of a backend or variant, or on a backend as a whole.

    Args:
        property: The name of the property.
        argument: The argument that the property takes what is under test as.
        backend: The name of the backend or variant.
        op: The op, or "programs" for a backend as a whole.
        parameter_set: Which set of pytest.mark.parametrize's arguments.
    """

    property: str
    argument: str
    backend: str
    op: str
    parameter_set: int = 0


@dataclass(frozen=True)
class TrialResult:
    """The result of one trial with one seed.

    Args:
        trial: The trial.
        seed: The seed.
        judged_cases: How many cases were judged.
        max_error_share: The largest error, as a share of what was allowed.
        alarm: What the property said if it failed.
    """

    trial: Trial
    seed: int
    judged_cases: int
    max_error_share: float
    alarm: str | None


def load_backend_or_variant(name: str) -> Backend:
    """Return the variant of this name, or else the backend."""
    return right_variants()[name].plant() if name in right_variants() else load(name)


def list_trials(backend: str, op: str) -> Iterator[Trial]:
    """Yield the trials of an op, or of programs, except those that a deviation excuses in every dtype."""
    for argument, under_test in load_under_test(backend, op).items():
        for name in properties():
            if applies_to(name, under_test, argument) and under_test.list_sound_dtypes(name):
                for k in range(len(list_parameter_sets(name))):
                    yield Trial(name, argument, backend, op, k)


def load_under_test(name: str, op: str) -> dict[str, BackendUnderTest]:
    """Return what the properties are tried on, by the name of the argument that they take it as.

    A variant is tried as a whole backend too, if programs or networks are made of its op, and always with
    its adapter; that of an unmodified backend is tried once, with programs.
    """
    backend = load_backend_or_variant(name)
    if op in OPS and op not in backend.ops:
        return {}
    under_test = detection.make_under_test(op, backend, OPS[op] if name == "numpy" and op in OPS else None)
    if op in OPS and not (name in right_variants() and is_in_programs(op)):
        del under_test["backend_under_test"]
    if op in OPS and name not in right_variants():
        del under_test["adapter_under_test"]
    return under_test


def run_trial(trial: Trial, seed: int) -> TrialResult:
    """Run one trial with one seed.

    Too few informative cases are an alarm too.
    """
    under_test = load_under_test(trial.backend, trial.op)[trial.argument]
    parameters = list_parameter_sets(trial.property)[trial.parameter_set]
    trial_seed = derive_seed(trial.op, trial.property, seed)
    with under_test.restrict_dtypes(under_test.list_sound_dtypes(trial.property)):
        failure = run_property(trial.property, trial.argument, under_test, trial_seed, parameters)
    alarm = f"{failure.reason}\n{under_test.failure.case!r}" if failure and under_test.failure else None
    try:
        under_test.require_informative_cases()
    except AssertionError as error:
        alarm = alarm or str(error)
    return TrialResult(trial, seed, under_test.tally.judged, under_test.tally.worst, alarm)
