"""Faults written for one op, by a decorator: the name of the rule says what is wrong with it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from faults import planted
from faults.fault import GRADIENT, Array, Fault, Rule
from gradspec.backends import Backend

OWN = "own"
HISTORIC = "historic"

WRITTEN: list[Fault] = []


def wrong(
    op: str,
    *,
    likely: str = GRADIENT,
    kind: str = OWN,
    source: str = "",
    nests: bool = False,
    sixteen: bool = False,
) -> Callable[[Rule], Rule]:
    """Declare a rule as a fault of the op.

    source: of a historic bug. nests: whether its pullbacks can be differentiated. sixteen: whether it is of 16-bit floats.
    """

    def declare(rule: Rule) -> Rule:
        dtypes = frozenset({"float16"} if sixteen else {"float64", "float32"})
        plant = partial(planted.of_rule, op, rule, dtypes, nests)
        add(Fault(op, HISTORIC if source else kind, words(rule), plant, likely, source=source))
        return rule

    return declare


def wrong_vjp(op: str, *, likely: str = GRADIENT, source: str = "", kind: str = OWN) -> Callable[..., Any]:
    """Declare a change of a vjp's inputs, value and pullback as a fault of one op."""

    def declare(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant() -> Backend:
            return planted.of_vjp(op, change)

        add(Fault(op, HISTORIC if source else kind, words(change), plant, likely, source=source))
        return change

    return declare


def add(fault: Fault) -> None:
    WRITTEN.append(fault)


def words(function: Callable[..., Any]) -> str:
    return function.__name__.replace("_", " ").strip()


def both(pulls: Any, g: Array) -> list[Array]:
    """What a tuple of pullbacks gives for one cotangent."""
    return [p and p(g) for p in pulls]
