"""Decorators for faults written for one op: the name of the rule says what is wrong with it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from gradspec.backends import Backend
from tests.faults import planted_backends
from tests.faults.fault import GRADIENT_PROPERTY, Array, Fault, Rule, spell_out_name

KIND_OWN = "own"
KIND_HISTORIC = "historic"

OWN_FAULTS: list[Fault] = []


def wrong_rule(
    op: str,
    *,
    likely: str = GRADIENT_PROPERTY,
    kind: str = KIND_OWN,
    source: str = "",
    nests: bool = False,
    is_16_bit: bool = False,
) -> Callable[[Rule], Rule]:
    """Declare a rule as a fault of the op.

    Args:
        op: The op.
        likely: The property to try first.
        kind: The family of the fault.
        source: Where a historic bug was reported; the kind is then "historic".
        nests: Whether its pullbacks can be differentiated.
        is_16_bit: Whether it is a fault with 16-bit floats, not with 32 and 64 bits.
    """

    def declare(rule: Rule) -> Rule:
        dtypes = frozenset({"float16"} if is_16_bit else {"float64", "float32"})
        plant = partial(planted_backends.plant_rule, op, rule, dtypes, nests)
        register_fault(
            Fault(op, KIND_HISTORIC if source else kind, spell_out_name(rule), plant, likely, source=source)
        )
        return rule

    return declare


def wrong_vjp(
    op: str, *, likely: str = GRADIENT_PROPERTY, source: str = "", kind: str = KIND_OWN
) -> Callable[..., Any]:
    """Declare a function that makes a wrong value and pullback of a vjp's right ones as a fault of one op."""

    def declare(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant() -> Backend:
            return planted_backends.plant_vjp_change(op, change)

        register_fault(
            Fault(op, KIND_HISTORIC if source else kind, spell_out_name(change), plant, likely, source=source)
        )
        return change

    return declare


def register_fault(fault: Fault) -> None:
    OWN_FAULTS.append(fault)


def apply_pullbacks(pulls: Any, g: Array) -> list[Array]:
    """Return what each of several pullbacks gives for one cotangent."""
    return [p and p(g) for p in pulls]
