"""Faults written for one op, by a decorator: the name of the rule says what is wrong with it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from gradspec.backends import Backend
from tests.faults import planted_backends
from tests.faults.fault import GRADIENT_PROPERTY, Array, Fault, Rule

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

    source: of a historic bug. nests: whether its pullbacks can be differentiated. sixteen: whether it is of 16-bit floats.
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
    """Declare a change of a vjp's inputs, value and pullback as a fault of one op."""

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


def spell_out_name(function: Callable[..., Any]) -> str:
    return function.__name__.replace("_", " ").strip()


def apply_pullbacks(pulls: Any, g: Array) -> list[Array]:
    """What a tuple of pullbacks gives for one cotangent."""
    return [p and p(g) for p in pulls]
