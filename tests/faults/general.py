"""Transformations that make a fault of any op's rule: by decorators, a line or two each.

    @gradient("size", each=True)
    def is_doubled(p: Pull) -> Array:
        return p.scaled(2)

says that in every op "the gradient of x is doubled" is a fault, and for each argument one of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from faults import planted
from faults.fault import GRADIENT, LAYOUTS, PURITY, VALUE, Array, Call, Fault, Pull
from gradspec.backends import Backend
from gradspec.reference import OPS, Op

When = Callable[[Op], bool]
Plant = Callable[[str, int | None], Backend]


@dataclass(frozen=True)
class General:
    """A fault of every op that `when` holds of; each: one for every argument that has a gradient."""

    kind: str
    name: str
    plant: Plant
    when: When
    each: bool = False
    likely: str = GRADIENT

    def faults(self, op: Op) -> Iterator[Fault]:
        """This fault of one op."""
        if not self.when(op):
            return
        free = op.differentiable_arguments(len(op.arguments))
        several = self.each and len(free) > 1
        for i in free if several else (None,):
            name = (
                self.name.replace("gradient", f"gradient of {op.arguments[i]}", 1)
                if i is not None
                else self.name
            )
            yield Fault(op.name, self.kind, name, partial(self.plant, op.name, i), self.likely)


GENERAL: list[General] = []


def always(op: Op) -> bool:
    return True


def never(op: Op) -> bool:
    return False


def gradient(
    kind: str, *, each: bool = False, when: When = always, likely: str = GRADIENT
) -> Callable[[Callable[[Pull], Array]], Callable[[Pull], Array]]:
    """Declare a change of gradients, whose name goes on "the gradient ...", as a fault of every op that has them."""

    def declare(change: Callable[[Pull], Array]) -> Callable[[Pull], Array]:
        def plant(op: str, argument: int | None) -> Backend:
            return planted.of_rule(op, planted.with_gradient(op, change, argument))

        name = f"the gradient {_words(change)}"
        GENERAL.append(General(kind, name, plant, lambda op: op.differentiable and when(op), each, likely))
        return change

    return declare


def value(
    kind: str, *, when: When = always, likely: str = VALUE
) -> Callable[[Callable[[Call], Array]], Callable[[Call], Array]]:
    """Declare a change of the value, whose name goes on "the value ...", as a fault of every op."""

    def declare(change: Callable[[Call], Array]) -> Callable[[Call], Array]:
        def plant(op: str, _: int | None) -> Backend:
            return planted.of_rule(op, planted.with_value(op, change))

        GENERAL.append(General(kind, f"the value {_words(change)}", plant, when, likely=likely))
        return change

    return declare


def seen_as(kind: str, *, needed: When, forward: When = always, likely: str = LAYOUTS) -> Callable[..., Any]:
    """Declare a change of what is read of the inputs: two faults, of the forward pass and of the backward pass.

    needed: the ops whose backward pass reads its inputs. forward: the ops whose forward pass it is a fault of.
    """

    def declare(change: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def plant(op: str, _: int | None, ahead: bool) -> Backend:
            return planted.of_rule(op, planted.with_inputs(op, change, ahead, not ahead))

        words, (ahead, back) = _words(change), (partial(plant, ahead=True), partial(plant, ahead=False))
        GENERAL.append(General(kind, f"the value is that {words}", ahead, forward, likely=likely))
        GENERAL.append(General(kind, f"the gradient is that {words}", back, needed, likely=likely))
        return change

    return declare


def vjp(kind: str, *, when: When = always, likely: str = PURITY) -> Callable[..., Any]:
    """Declare a change of inputs, value and pullback to another value and pullback as a fault of every op with gradients."""

    def declare(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant(op: str, _: int | None) -> Backend:
            return planted.of_vjp(op, change)

        GENERAL.append(
            General(kind, _words(change), plant, lambda op: op.differentiable and when(op), likely=likely)
        )
        return change

    return declare


def general_faults(op: str) -> Iterator[Fault]:
    """The faults that transformations make of one op."""
    for general in GENERAL:
        yield from general.faults(OPS[op])


def _words(function: Callable[..., Any]) -> str:
    return function.__name__.rstrip("_").replace("_", " ")
