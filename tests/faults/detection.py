"""The detection of one fault with one seed: the properties are run one after the other until one fails."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from gradspec.backends import Backend
from gradspec.properties.cases.program_ops import classify_ops
from gradspec.properties.laws.first_contact import ADAPTER
from gradspec.properties.laws.training import NETWORK_OPS
from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.perform_property import derive_seed
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest
from gradspec.reference import OPS
from tests.faults import judge_cache
from tests.faults.collected_properties import applies_to, list_parameter_sets, properties
from tests.faults.drawn_cases import draw_cases
from tests.faults.fault import Fault
from tests.faults.planted_backends import BARE_ENGINE

DTYPES_WIDEST_FIRST = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Detection:
    """The property that detected a fault, the number of its example, and the reason it gave."""

    property: str
    example: int
    reason: str


def make_under_test(op: str, backend: Backend, spec: Any = None) -> dict[str, BackendUnderTest]:
    """Return what the properties are tried on, by the name of the argument that they take it as."""
    dtypes = [d for d in DTYPES_WIDEST_FIRST if d in backend.dtypes]
    whole = BackendUnderTest(backend=backend, dtypes=dtypes)
    adapter = BackendUnderTest(name=ADAPTER, backend=backend, dtypes=dtypes)
    under_test: dict[str, BackendUnderTest] = {"backend_under_test": whole, "adapter_under_test": adapter}
    if op in OPS:
        under_test["op_under_test"] = OpUnderTest(name=op, op=spec or OPS[op], backend=backend, dtypes=dtypes)
    if spec:
        spec_backend = replace(backend, name="spec")
        under_test["spec_op"] = OpUnderTest(name=op, op=spec, backend=spec_backend, dtypes=["float64"])
    return under_test


def list_applicable_properties(
    under_test: dict[str, BackendUnderTest], without: Iterable[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yield the properties that apply to one of these, each with the name of its argument."""
    for name in properties():
        for argument, target in under_test.items():
            if name not in without and applies_to(name, target, argument):
                yield name, argument


def run_property(
    name: str, argument: str, under_test: BackendUnderTest, seed: int, parameters: dict[str, Any]
) -> Detection | None:
    """Run one property with a seed; return how it failed, or None."""
    with warnings.catch_warnings(action="ignore"):
        for drawn_case in draw_cases(name, argument, under_test, seed, parameters):
            try:
                under_test.check_law(drawn_case.law, drawn_case.case)
            except LawViolation as violation:
                return Detection(name, drawn_case.example, violation.judgement.reason)
    return None


def is_in_programs(op: str) -> bool:
    """Whether the programs and networks that try a whole backend may contain this op."""
    ops = classify_ops([op])
    return op in NETWORK_OPS or bool(ops.of_several or ops.comparing or ops.moving or ops.others)


def detect_fault(fault: Fault, seed: int, without: Iterable[str] = ()) -> Detection | None:
    """Run the properties on a fault, the likely one first, until one fails; None if all pass."""
    under_test = make_under_test(fault.op, fault.plant(), fault.spec)
    is_bare = under_test["backend_under_test"].backend.name == BARE_ENGINE
    if is_bare:
        del under_test["adapter_under_test"]
    if is_bare or (fault.op in OPS and not is_in_programs(fault.op)):
        del under_test["backend_under_test"]
    order = sorted(list_applicable_properties(under_test, without), key=lambda pair: pair[0] != fault.likely)
    for name, argument in order:
        target, property_seed = under_test[argument], derive_seed(fault.op, name, seed)
        for parameters in list_parameter_sets(name):
            # The cases are drawn, and cached, while the spec is right.
            draw_cases(name, argument, target, property_seed, parameters)
            with spoil_spec_by(fault):
                if detection := run_property(name, argument, target, property_seed, parameters):
                    return detection
    return None


@contextmanager
def spoil_spec_by(fault: Fault) -> Iterator[None]:
    """Within this context the spec is spoilt, if that is the fault; what it then computes is forgotten."""
    if fault.spoil_spec is nullcontext:
        yield
        return
    judge_cache.clear_cache()
    with fault.spoil_spec():
        yield
    judge_cache.clear_cache()
