"""What a fault is, and what it can see of the call that it spoils."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gradspec.backends import Backend
from gradspec.reference import OPS, Op
from gradspec.reference.arrays import unbroadcast

Array = Any
Made = Any  # a VJP, whose gradients may come as a list as well
Rule = Callable[..., Made]

VALUE = "test_value_agrees"
GRADIENT = "test_every_gradient_agrees"
SHAPES = "test_shapes_and_dtypes_are_kept"
LAYOUTS = "test_layout_makes_no_difference"
LINEARITY = "test_pullback_is_linear_in_the_cotangent"
KINKS = "test_gradient_at_kinks_is_a_legal_subgradient"
CONSTANTS = "test_other_arguments_may_be_constants"
PURITY = "test_calls_leave_no_trace"
EXTREMES = "test_extremes_go_where_the_spec_says"
EXTREMES_OF_ELEMENTS = "test_extremes_of_elementwise_ops_go_where_the_spec_says"
BATCHES = "test_a_batch_equals_its_members"
SYMMETRIES = "test_symmetries_are_kept"
BAD_INPUT = "test_what_the_spec_refuses_raises"
SECOND_ORDER = "test_second_derivatives_agree"
PROGRAMS = "test_every_gradient_of_a_program_agrees"
DEPTH = "test_a_chain_of_any_length_is_differentiated"
TRAINING = "test_a_network_learns_as_the_spec_does"
SPEC = "test_spec_agrees_with_numerical_differentiation"
TENSOR = "test_program_text_observes_the_same"


@dataclass(frozen=True, eq=False)
class Fault:
    """One op done wrong in one way.

    op: the op, or "programs" for an engine. kind: the family, a column of the table. name: what is wrong, in words, unique
    among the faults of the op. plant: makes the backend. likely: the property to try first, which is a matter of time and not of
    outcome. spec: the op that takes the spec's place, where it is the spec that is wrong. source: of a historic bug.
    within: where it is the spec's engine that is wrong, what spoils it for as long as it lasts.
    """

    op: str
    kind: str
    name: str
    plant: Callable[[], Backend]
    likely: str = GRADIENT
    spec: Op | None = None
    source: str = ""
    within: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __repr__(self) -> str:
        return f"{self.op}: {self.name}"


@dataclass(frozen=True, eq=False)
class Call:
    """A call of an op: its arrays, its keywords and the right value."""

    op: Op
    xs: tuple[Array, ...]
    keywords: Mapping[str, Any]
    y: Array

    @property
    def x(self) -> Array:
        return self.xs[0]


@dataclass(frozen=True, eq=False)
class Pull(Call):
    """The right gradient of the i-th array of a call, about to be spoilt.

    g: the cotangent. full: the gradient before it is summed over broadcast axes. pulled: the pullbacks, which give such
    gradients of all arrays for any cotangent.
    """

    i: int = 0
    g: Array = None
    full: Array = None
    pulled: Callable[[Array], Sequence[Array]] = field(default=lambda g: ())

    @property
    def x(self) -> Array:
        return self.xs[self.i]

    @cached_property
    def d(self) -> Array:
        """The gradient in the shape of its array."""
        return summed(self.full, self.x)

    def of(self, g: Array) -> Array:
        """The gradient for another cotangent."""
        return summed(self.pulled(g)[self.i], self.x)

    def scaled(self, factor: Array) -> Array:
        """The gradient times something, in its own dtype."""
        return (self.d * factor).astype(self.d.dtype)

    def where(self, mask: Array, factor: float = 2) -> Array:
        """The gradient, doubled where the mask holds."""
        return self.scaled(1 + (factor - 1) * mask)


def summed(d: Array, x: Array) -> Array:
    return d if d.shape == x.shape else unbroadcast(d, x.shape)


def pullbacks(op: str, *xs: Array, **keywords: Any) -> tuple[Array, Callable[[Array], Sequence[Array]]]:
    """The value of the spec's rule, and one function from a cotangent to what it gives each array, None to some."""
    y, pulls = OPS[op].rule(*xs, **keywords)
    if pulls is None or callable(pulls):
        return y, pulls or (lambda g: [None] * len(xs))
    return y, lambda g: [p and p(g) for p in pulls]
