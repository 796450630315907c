"""Variants that are right but different: what a property must not find fault with. By a decorator, as faults are written.

    @right("relu", KINKS)
    def relu_is_flat_at_zero(x: Array) -> Made: ...

Each takes a freedom that mathematics or IEEE 754 leaves: which subgradient, which order of summation, which formula, which
layout of a result, which precision on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from faults import planted
from faults.fault import Rule
from faults.own import words
from gradspec.backends import Backend

SUBGRADIENT, ORDER, FORMULA, LAYOUT, WIDER = "subgradient", "order", "formula", "layout", "wider"


@dataclass(frozen=True, eq=False)
class Variant:
    """One op done right in another way. kind: which freedom it takes. plant: makes the backend."""

    op: str
    kind: str
    name: str
    plant: Callable[[], Backend]

    def __repr__(self) -> str:
        return f"{self.op}: {self.name}"


RIGHT: list[Variant] = []


def right(op: str, kind: str) -> Callable[[Rule], Rule]:
    """Declare a rule as a variant of the op."""

    def declare(rule: Rule) -> Rule:
        RIGHT.append(Variant(op, kind, words(rule), partial(planted.of_rule, op, rule)))
        return rule

    return declare
