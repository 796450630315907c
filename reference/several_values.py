r"""Several values of one call on the tape.

A variable without an array, the bundle, stands for all values of a call; each value is computed from it:

        x    y
         \  /
        bundle      its pullbacks take one cotangent per value and give that of x or y
         /  \
       v0    v1     their pullbacks give the bundle `Cotangents`: their own, by their number

The bundle is older than the values, so all cotangents have reached it when its turn comes in the backward
pass, which therefore knows nothing of several values. A value that nothing was computed from has sent none:
zeros stand for its cotangent.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any

import numpy as np

from gradspec.reference.backward import UNKNOWN_SHAPE_DTYPE
from gradspec.reference.rule import VJP, Array, Rule

_new = object.__new__


class Cotangents:
    """The cotangents of some of the values of a call, by number; their sum with those of others has both."""

    __slots__ = ("by_number",)

    def __init__(self, by_number: dict[int, Array]) -> None:
        self.by_number = by_number

    def __add__(self, other: "Cotangents") -> "Cotangents":
        return Cotangents(self.by_number | other.by_number)

    def __iadd__(self, other: "Cotangents") -> "Cotangents":
        self.by_number.update(other.by_number)
        return self


class FillWithZeros:
    """Lists the cotangents of all values of a call, given those of some: zeros for the others.

    Not a function, in whose closure the tape would look for arrays that must not be overwritten: of the
    values no more than shape and dtype is needed.
    """

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Array]) -> None:
        self.values = values

    def __call__(self, by_number: dict[int, Array]) -> list[Array]:
        return [by_number[k] if k in by_number else np.zeros_like(v) for k, v in enumerate(self.values)]


def pick_value(rule: Rule, number: int) -> Rule:
    """Return the rule of one of the values that a rule returns; it has no pullbacks for integers.

    Args:
        rule: a rule of several values.
        number: the number of the value: 0, 1, ..., or -1 for the last.
    """

    @wraps(rule)
    def picked_rule(*args: Any, **keywords: Any) -> VJP:
        values, pullbacks = rule(*args, **keywords)
        value = values[number]
        if pullbacks is None or value.dtype.kind in "biu":
            return value, None
        fill, place = FillWithZeros(values), number % len(values)
        return value, _map_pullbacks(pullbacks, lambda g: fill({place: g}))

    formula = getattr(rule, "formula", None)
    if formula is not None:
        picked_rule.formula = lambda *args, **keywords: formula(*args, **keywords)[number]  # type: ignore[attr-defined]
    return picked_rule


def gather_cotangents(rule: Rule) -> Rule:
    """Return the rule of the bundle of the values that a rule returns: its pullbacks take `Cotangents`."""

    def bundle(*args: Any, **keywords: Any) -> VJP:
        values, pullbacks = rule(*args, **keywords)
        return None, make_gathering_pullbacks(values, pullbacks)

    bundle.__name__ = rule.__name__
    bundle.of = rule  # type: ignore[attr-defined]
    return bundle


def make_gathering_pullbacks(values: Sequence[Array], pullbacks: Any) -> Any:
    """Return pullbacks that take `Cotangents`, of those that take one cotangent per value."""
    fill = FillWithZeros(values)
    return _map_pullbacks(pullbacks, lambda cotangents: fill(cotangents.by_number))


def _map_pullbacks(pullbacks: Any, list_cotangents: Callable[[Any], list[Array]]) -> Any:
    """Return pullbacks of one argument, which is turned into one cotangent per value."""
    if callable(pullbacks):
        return lambda g: pullbacks(*list_cotangents(g))
    return tuple([p and (lambda g, p=p: p(*list_cotangents(g))) for p in pullbacks])


@lru_cache
def make_picking_rule(number: int) -> Rule:
    """Return the rule by which a value comes of its bundle."""

    def value_of_several(_: Any) -> VJP:
        return None, (lambda g: Cotangents({number: g}),)

    return value_of_several


def join_values(values: Sequence[Any], sequence_number: int) -> Any:
    """Return a variable to start a backward pass from, whose cotangent is a list of those of the values.

    Args:
        values: variables and constants; only the variables that require grad have a place in that list.
        sequence_number: the number of the new variable, above theirs.

    Returns:
        The variable; None if no value requires grad.
    """
    recorded = [v for v in values if getattr(v, "requires_grad", False)]
    if not recorded:
        return None

    def join(*_: Any) -> VJP:
        return None, tuple([lambda gs, k=k: gs[k] for k in range(len(recorded))])

    root = _new(type(recorded[0]))
    root._data = root._shape_dtype = None
    root._sequence_nr = sequence_number
    root._parents = tuple(recorded)
    root._pullbacks = join()[1]
    root._gradient_shape_dtype = UNKNOWN_SHAPE_DTYPE
    root._rule_call = join
    return root
