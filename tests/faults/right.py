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

from faults import planted
from faults.fault import Array, Made, Rule
from faults.own import words
from gradspec.backends import Backend
from gradspec.reference import OPS

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


def right(op: str, kind: str, name: str = "") -> Callable[[Rule], Rule]:
    """Declare a rule as a variant of the op, called what the function is unless it has a name of its own."""

    def declare(rule: Rule) -> Rule:
        @wraps(rule)
        def checked(*xs: Array, **keywords: Any) -> Made:
            OPS[op].rule(*xs, **keywords)  # refuses what no variant may take
            return rule(*xs, **keywords)

        add(op, kind, name or words(rule), partial(planted.of_rule, op, checked))
        return rule

    return declare


def with_both_bounds(rule: Rule) -> Rule:
    """A rule of clip that takes both bounds, made one that leaves other calls to the spec."""

    def clip(x: Array, min: Array | None = None, max: Array | None = None) -> Made:  # noqa: A002
        return OPS["clip"].rule(x, min, max) if min is None or max is None else rule(x, min, max)

    clip.__name__ = rule.__name__
    return clip


def add(op: str, kind: str, name: str, plant: Callable[[], Backend]) -> None:
    RIGHT.append(Variant(op, kind, name, plant))
