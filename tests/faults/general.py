"""Decorators for general faults: transformations of a line or two that make a fault of any op's rule.

    @gradient_fault(KIND_SIZE, for_each_argument=True)
    def is_zero(c: GradientContext) -> Array:
        return np.zeros_like(c.x)

    @value_fault(KIND_SHAPE)
    def value_loses_axes_of_length_one(c: CallContext) -> Array:
        return np.squeeze(c.y)

The first makes "the gradient of x is zero" a fault of every op, one for each argument; the second makes "the
value loses axes of length one" a fault of every op. The name of a gradient fault continues "the gradient",
that of a value fault begins with `value_`, and that of a vjp fault is a whole sentence.
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
    spell_out_name,
)

OpPredicate = Callable[[Op], bool]
PlantInOp = Callable[[str, int | None], Backend]


@dataclass(frozen=True)
class GeneralFault:
    """A fault of every op that `applies_to` holds for; with `for_each_argument`, one for each gradient."""

    kind: str
    name: str
    plant: PlantInOp
    applies_to: OpPredicate
    for_each_argument: bool = False
    likely: str = GRADIENT_PROPERTY

    def make_faults(self, op: Op) -> Iterator[Fault]:
        """Yield this fault of one op: one, several, or none if it does not apply."""
        if not self.applies_to(op):
            return
        arguments = op.differentiable_arguments(len(op.arguments))
        for i in arguments if self.for_each_argument and len(arguments) > 1 else (None,):
            gradient = "gradient" if i is None else f"gradient of {op.arguments[i]}"
            name = self.name.replace("gradient", gradient, 1)
            yield Fault(op.address, self.kind, name, partial(self.plant, op.address, i), self.likely)


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
    """Declare a change of gradients, named as in "the gradient ...", as a fault of every op that has them."""

    def declare(change: Callable[[GradientContext], Array]) -> Callable[[GradientContext], Array]:
        def plant(op: str, argument: int | None) -> Backend:
            return planted_backends.plant_rule(
                op, planted_backends.make_changed_gradient_rule(op, change, argument)
            )

        is_affected = lambda op: op.differentiable and applies_to(op)
        name = f"the gradient {spell_out_name(change)}"
        GENERAL_FAULTS.append(GeneralFault(kind, name, plant, is_affected, for_each_argument, likely))
        return change

    return declare


def value_fault(
    kind: str, *, applies_to: OpPredicate = always, likely: str = VALUE_PROPERTY
) -> Callable[[Callable[[CallContext], Array]], Callable[[CallContext], Array]]:
    """Declare a change of the value as a fault of every op; its name begins with `value_`.

    Raises:
        ValueError: It does not.
    """

    def declare(change: Callable[[CallContext], Array]) -> Callable[[CallContext], Array]:
        def plant(op: str, _: int | None) -> Backend:
            return planted_backends.plant_rule(op, planted_backends.make_changed_value_rule(op, change))

        if not change.__name__.startswith("value_"):
            raise ValueError(f"{change.__name__}: the name of a value fault must begin with value_")
        name = f"the {spell_out_name(change)}"
        GENERAL_FAULTS.append(GeneralFault(kind, name, plant, applies_to, likely=likely))
        return change

    return declare


def misread_input_fault(
    kind: str,
    *,
    backward_applies_to: OpPredicate,
    forward_applies_to: OpPredicate = always,
    likely: str = LAYOUTS_PROPERTY,
) -> Callable[..., Any]:
    """Declare a way to misread inputs as two faults of every op: of the forward and of the backward pass.

    Args:
        kind: The family of both faults.
        backward_applies_to: Whether the backward pass of an op reads its inputs.
        forward_applies_to: Whether it is a fault in the forward pass of an op.
        likely: The property to try first.
    """

    def declare(change: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def plant(op: str, _: int | None, forward: bool) -> Backend:
            rule = planted_backends.make_changed_inputs_rule(op, change, forward, not forward)
            return planted_backends.plant_rule(op, rule)

        for result, forward, applies_to in (
            ("value", True, forward_applies_to),
            ("gradient", False, backward_applies_to),
        ):
            name = f"the {result} is that {spell_out_name(change)}"
            plant_pass = partial(plant, forward=forward)
            GENERAL_FAULTS.append(GeneralFault(kind, name, plant_pass, applies_to, likely=likely))
        return change

    return declare


def vjp_fault(
    kind: str, *, applies_to: OpPredicate = always, likely: str = PURITY_PROPERTY
) -> Callable[..., Any]:
    """Declare a function of inputs, value and pullback as a fault of every op that has gradients.

    It returns the value and pullback that take the place of the right ones; its name is the whole sentence.
    """

    def declare(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant(op: str, _: int | None) -> Backend:
            return planted_backends.plant_vjp_change(op, change)

        is_affected = lambda op: op.differentiable and applies_to(op)
        GENERAL_FAULTS.append(GeneralFault(kind, spell_out_name(change), plant, is_affected, likely=likely))
        return change

    return declare


def make_general_faults(op: str) -> Iterator[Fault]:
    """Yield the general faults of one op."""
    for general in GENERAL_FAULTS:
        yield from general.make_faults(OPS[op])
