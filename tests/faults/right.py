"""The decorator for variants: ops that are right but different, on which no property may fail.

    @right_rule("relu", KIND_SUBGRADIENT)
    def relu_is_flat_at_zero(x: Array) -> RuleResult: ...

Each uses a freedom that mathematics or IEEE 754 leaves: which subgradient, which order of summation, which
formula, which layout of a result, which precision on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

from gradspec.backends import Backend
from gradspec.reference import OPS
from tests.faults import planted_backends
from tests.faults.fault import Array, Rule, RuleResult, spell_out_name

KIND_SUBGRADIENT = "subgradient"
KIND_ORDER = "order"
KIND_FORMULA = "formula"
KIND_LAYOUT = "layout"
KIND_WIDER = "wider"


@dataclass(frozen=True, eq=False)
class Variant:
    """One op done right in another way.

    Args:
        op: The op.
        kind: Which freedom it uses.
        name: How it differs, in words.
        plant: Makes the backend.
    """

    op: str
    kind: str
    name: str
    plant: Callable[[], Backend]

    def __repr__(self) -> str:
        return f"{self.op}: {self.name}"


VARIANTS: list[Variant] = []


def right_rule(op: str, kind: str, name: str = "") -> Callable[[Rule], Rule]:
    """Declare a rule as a variant of the op, named like the function if no name is given."""

    def declare(rule: Rule) -> Rule:
        @wraps(rule)
        def checked_rule(*xs: Array, **keywords: Any) -> RuleResult:
            OPS[op].rule(*xs, **keywords)  # raises if no variant may take these
            return rule(*xs, **keywords)

        plant = partial(planted_backends.plant_rule, op, checked_rule)
        register_variant(op, kind, name or spell_out_name(rule), plant)
        return rule

    return declare


def leave_missing_bounds_to_spec(rule: Rule) -> Rule:
    """Return the rule of clip as one that leaves calls without one of the bounds to the spec."""

    def clip(x: Array, min: Array | None = None, max: Array | None = None) -> RuleResult:  # noqa: A002
        return OPS["clip"].rule(x, min, max) if min is None or max is None else rule(x, min, max)

    clip.__name__ = rule.__name__
    return clip


def register_variant(op: str, kind: str, name: str, plant: Callable[[], Backend]) -> None:
    VARIANTS.append(Variant(op, kind, name, plant))
