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

from gradspec.backends import Backend
from gradspec.reference import OPS, Op
from tests.faults import planted_backends
from tests.faults.fault import (
    GRADIENT_PROPERTY,
    LAYOUTS_PROPERTY,
    PURITY_PROPERTY,
    VALUE_PROPERTY,
    Array,
    CallContext,
    Fault,
    GradientContext,
)

OpPredicate = Callable[[Op], bool]
PlantInOp = Callable[[str, int | None], Backend]


@dataclass(frozen=True)
class GeneralFault:
    """A fault of every op that `when` holds of; each: one for every argument that has a gradient."""

    kind: str
    name: str
    plant: PlantInOp
    applies_to: OpPredicate
    for_each_argument: bool = False
    likely: str = GRADIENT_PROPERTY

    def make_faults(self, op: Op) -> Iterator[Fault]:
        """This fault of one op."""
        if not self.applies_to(op):
            return
        free = op.differentiable_arguments(len(op.arguments))
        several = self.for_each_argument and len(free) > 1
        for i in free if several else (None,):
            name = (
                self.name.replace("gradient", f"gradient of {op.arguments[i]}", 1)
                if i is not None
                else self.name
            )
            yield Fault(op.name, self.kind, name, partial(self.plant, op.name, i), self.likely)


GENERAL_FAULTS: list[GeneralFault] = []


def always(op: Op) -> bool:
    return True


def never(op: Op) -> bool:
    return False


def gradient_fault(
    kind: str,
    *,
    for_each_argument: bool = False,
    applies_to: OpPredicate = always,
    likely: str = GRADIENT_PROPERTY,
) -> Callable[[Callable[[GradientContext], Array]], Callable[[GradientContext], Array]]:
    """Declare a change of gradients, whose name goes on "the gradient ...", as a fault of every op that has them."""

    def declare(change: Callable[[GradientContext], Array]) -> Callable[[GradientContext], Array]:
        def plant(op: str, argument: int | None) -> Backend:
            return planted_backends.plant_rule(op, planted_backends.change_gradient(op, change, argument))

        name = f"the gradient {_spell_out_name(change)}"
        GENERAL_FAULTS.append(
            GeneralFault(
                kind, name, plant, lambda op: op.differentiable and applies_to(op), for_each_argument, likely
            )
        )
        return change

    return declare


def value_fault(
    kind: str, *, applies_to: OpPredicate = always, likely: str = VALUE_PROPERTY
) -> Callable[[Callable[[CallContext], Array]], Callable[[CallContext], Array]]:
    """Declare a change of the value, whose name begins with `value_`, as a fault of every op."""

    def declare(change: Callable[[CallContext], Array]) -> Callable[[CallContext], Array]:
        def plant(op: str, _: int | None) -> Backend:
            return planted_backends.plant_rule(op, planted_backends.change_value(op, change))

        words = _spell_out_name(change)
        if not words.startswith("value "):
            raise ValueError(f"{change.__name__}: the name of a fault of the value begins with value_")
        GENERAL_FAULTS.append(GeneralFault(kind, f"the {words}", plant, applies_to, likely=likely))
        return change

    return declare


def misread_input_fault(
    kind: str,
    *,
    backward_applies_to: OpPredicate,
    forward_applies_to: OpPredicate = always,
    likely: str = LAYOUTS_PROPERTY,
) -> Callable[..., Any]:
    """Declare a change of what is read of the inputs: two faults, of the forward pass and of the backward pass.

    needed: the ops whose backward pass reads its inputs. forward: the ops whose forward pass it is a fault of.
    """

    def declare(change: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def plant(op: str, _: int | None, ahead: bool) -> Backend:
            return planted_backends.plant_rule(
                op, planted_backends.change_inputs(op, change, ahead, not ahead)
            )

        words, (ahead, back) = (
            _spell_out_name(change),
            (partial(plant, ahead=True), partial(plant, ahead=False)),
        )
        GENERAL_FAULTS.append(
            GeneralFault(kind, f"the value is that {words}", ahead, forward_applies_to, likely=likely)
        )
        GENERAL_FAULTS.append(
            GeneralFault(kind, f"the gradient is that {words}", back, backward_applies_to, likely=likely)
        )
        return change

    return declare


def vjp_fault(
    kind: str, *, applies_to: OpPredicate = always, likely: str = PURITY_PROPERTY
) -> Callable[..., Any]:
    """Declare a change of inputs, value and pullback to another value and pullback as a fault of every op with gradients."""

    def declare(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant(op: str, _: int | None) -> Backend:
            return planted_backends.plant_vjp_change(op, change)

        GENERAL_FAULTS.append(
            GeneralFault(
                kind,
                _spell_out_name(change),
                plant,
                lambda op: op.differentiable and applies_to(op),
                likely=likely,
            )
        )
        return change

    return declare


def make_general_faults(op: str) -> Iterator[Fault]:
    """The faults that transformations make of one op."""
    for general in GENERAL_FAULTS:
        yield from general.make_faults(OPS[op])


def _spell_out_name(function: Callable[..., Any]) -> str:
    return function.__name__.replace("_", " ")
