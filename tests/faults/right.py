"""Variants that are right but different: what a property must not find fault with. By a decorator, as faults are written.

    @right("relu", KINKS)
    def relu_is_flat_at_zero(x: Array) -> Made: ...

Each takes a freedom that mathematics or IEEE 754 leaves: which subgradient, which order of summation, which formula, which
layout of a result, which precision on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

from gradspec.backends import Backend
from gradspec.reference import OPS
from tests.faults import planted_backends
from tests.faults.fault import Array, Rule, RuleResult
from tests.faults.own import spell_out_name

KIND_SUBGRADIENT, KIND_ORDER, KIND_FORMULA, KIND_LAYOUT, KIND_WIDER = (
    "subgradient",
    "order",
    "formula",
    "layout",
    "wider",
)


@dataclass(frozen=True, eq=False)
class Variant:
    """One op done right in another way. kind: which freedom it takes. plant: makes the backend."""

    op: str
    kind: str
    name: str
    plant: Callable[[], Backend]

    def __repr__(self) -> str:
        return f"{self.op}: {self.name}"


VARIANTS: list[Variant] = []


def right_rule(op: str, kind: str, name: str = "") -> Callable[[Rule], Rule]:
    """Declare a rule as a variant of the op, called what the function is unless it has a name of its own."""

    def declare(rule: Rule) -> Rule:
        @wraps(rule)
        def checked(*xs: Array, **keywords: Any) -> RuleResult:
            OPS[op].rule(*xs, **keywords)  # refuses what no variant may take
            return rule(*xs, **keywords)

        register_variant(
            op, kind, name or spell_out_name(rule), partial(planted_backends.plant_rule, op, checked)
        )
        return rule

    return declare


def require_both_bounds(rule: Rule) -> Rule:
    """A rule of clip that takes both bounds, made one that leaves other calls to the spec."""

    def clip(x: Array, min: Array | None = None, max: Array | None = None) -> RuleResult:  # noqa: A002
        return OPS["clip"].rule(x, min, max) if min is None or max is None else rule(x, min, max)

    clip.__name__ = rule.__name__
    return clip


def register_variant(op: str, kind: str, name: str, plant: Callable[[], Backend]) -> None:
    VARIANTS.append(Variant(op, kind, name, plant))
