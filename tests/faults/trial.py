"""One fault tried with one seed: the properties one after the other, until one of them fails."""

import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from faults import shared
from faults.asked import asked
from faults.fault import Fault
from faults.properties_of import properties, speaks_of, variants
from gradspec.backends import Backend
from gradspec.properties.laws.programs import MENU
from gradspec.properties.laws.training import LAYERS
from gradspec.properties.running.failure import Disagreement
from gradspec.properties.running.subject import Engine, Subject
from gradspec.reference import OPS

WIDEST_FIRST = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Killed:
    """By which property a fault was found, at which of its examples, and what it said."""

    by: str
    examples: int
    reason: str


def subjects(op: str, backend: Backend, spec: Any = None) -> dict[str, Engine]:
    """What the properties are tried on, by the argument that they take it as."""
    dtypes = [d for d in WIDEST_FIRST if d in backend.dtypes]
    found: dict[str, Engine] = {"engine": Engine(backend=backend, dtypes=dtypes)}
    if op in OPS:
        found["subject"] = Subject(name=op, op=spec or OPS[op], backend=backend, dtypes=dtypes)
    if spec:
        found["spec"] = Subject(name=op, op=spec, backend=replace(backend, name="spec"), dtypes=["float64"])
    return found


def concerned(tried: dict[str, Engine], without: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """The properties that speak of one of these, and of which."""
    for name in properties():
        for argument, one in tried.items():
            if name not in without and speaks_of(name, one, argument):
                yield name, argument


def attempt(name: str, argument: str, tried: Engine, seed: int, more: dict[str, Any]) -> Killed | None:
    """Try one property with a seed; how it failed, or None."""
    with warnings.catch_warnings(action="ignore"):
        for one in asked(name, argument, tried, seed, more):
            try:
                tried.obeys(one.law, one.case)
            except Disagreement as found:
                return Killed(name, one.example, found.judgement.reason)
    return None


def matters(op: str) -> bool:
    """Whether programs and networks, which engines are tried on, are made of this op among others."""
    return op in LAYERS or op in {entry.op for entry in MENU.values()}


def tried(fault: Fault, seed: int, without: Iterable[str] = ()) -> Killed | None:
    """Try the properties on a fault, the likely one first; the first that fails, or None if none does."""
    on = subjects(fault.op, fault.plant(), fault.spec)
    if fault.op in OPS and not matters(fault.op):
        del on["engine"]
    order = sorted(concerned(on, without), key=lambda pair: pair[0] != fault.likely)
    for name, argument in order:
        for more in variants(name):
            seed_here = seed_of(fault.op, name, seed)
            asked(name, argument, on[argument], seed_here, more)  # drawn while the spec is right
            with spoilt(fault):
                if found := attempt(name, argument, on[argument], seed_here, more):
                    return found
    return None


@contextmanager
def spoilt(fault: Fault) -> Iterator[None]:
    """With the spec's engine spoilt if that is the fault, and no memory of what it then takes for exact."""
    if fault.within is nullcontext:
        yield
        return
    shared.forget()
    with fault.within():
        yield
    shared.forget()


def seed_of(op: str, name: str, seed: int) -> int:
    """A seed of its own for every op and property, the same each time and for all faults of the op."""
    return zlib.crc32(f"{seed} {op} {name}".encode())
