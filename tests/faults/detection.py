"""One fault tried with one seed: the properties one after the other, until one of them fails."""

import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from gradspec.backends import Backend
from gradspec.properties.cases.programs import MENU
from gradspec.properties.laws.training import NETWORK_OPS
from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest
from gradspec.reference import OPS
from tests.faults import shared_measures
from tests.faults.collected_properties import applies_to, list_parameter_sets, properties
from tests.faults.drawn_cases import draw_cases
from tests.faults.fault import Fault

DTYPES_WIDEST_FIRST = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Detection:
    """By which property a fault was found, at which of its examples, and what it said."""

    property: str
    example: int
    reason: str


def make_under_test(op: str, backend: Backend, spec: Any = None) -> dict[str, BackendUnderTest]:
    """What the properties are tried on, by the argument that they take it as."""
    dtypes = [d for d in DTYPES_WIDEST_FIRST if d in backend.dtypes]
    found: dict[str, BackendUnderTest] = {
        "backend_under_test": BackendUnderTest(backend=backend, dtypes=dtypes)
    }
    if op in OPS:
        found["op_under_test"] = OpUnderTest(name=op, op=spec or OPS[op], backend=backend, dtypes=dtypes)
    if spec:
        found["spec_op"] = OpUnderTest(
            name=op, op=spec, backend=replace(backend, name="spec"), dtypes=["float64"]
        )
    return found


def list_applicable_properties(
    under_test: dict[str, BackendUnderTest], without: Iterable[str] = ()
) -> Iterator[tuple[str, str]]:
    """The properties that speak of one of these, and of which."""
    for name in properties():
        for argument, one in under_test.items():
            if name not in without and applies_to(name, one, argument):
                yield name, argument


def run_property(
    name: str, argument: str, under_test: BackendUnderTest, seed: int, parameters: dict[str, Any]
) -> Detection | None:
    """Try one property with a seed; how it failed, or None."""
    with warnings.catch_warnings(action="ignore"):
        for one in draw_cases(name, argument, under_test, seed, parameters):
            try:
                under_test.check_law(one.law, one.case)
            except LawViolation as found:
                return Detection(name, one.example, found.judgement.reason)
    return None


def is_in_programs(op: str) -> bool:
    """Whether programs and networks, which engines are tried on, are made of this op among others."""
    return op in NETWORK_OPS or op in {entry.op for entry in MENU.values()}


def detect_fault(fault: Fault, seed: int, without: Iterable[str] = ()) -> Detection | None:
    """Try the properties on a fault, the likely one first; the first that fails, or None if none does."""
    on = make_under_test(fault.op, fault.plant(), fault.spec)
    if fault.op in OPS and not is_in_programs(fault.op):
        del on["backend_under_test"]
    order = sorted(list_applicable_properties(on, without), key=lambda pair: pair[0] != fault.likely)
    for name, argument in order:
        for more in list_parameter_sets(name):
            seed_here = derive_seed(fault.op, name, seed)
            draw_cases(name, argument, on[argument], seed_here, more)  # drawn while the spec is right
            with spoil_spec_by(fault):
                if found := run_property(name, argument, on[argument], seed_here, more):
                    return found
    return None


@contextmanager
def spoil_spec_by(fault: Fault) -> Iterator[None]:
    """With the spec's engine spoilt if that is the fault, and no memory of what it then takes for exact."""
    if fault.spoil_spec is nullcontext:
        yield
        return
    shared_measures.clear_cache()
    with fault.spoil_spec():
        yield
    shared_measures.clear_cache()


def derive_seed(op: str, name: str, seed: int) -> int:
    """A seed of its own for every op and property, the same each time and for all faults of the op."""
    return zlib.crc32(f"{seed} {op} {name}".encode())
