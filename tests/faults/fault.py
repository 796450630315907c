"""What a fault is, and the context of a call that it is given."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gradspec.backends import Backend
from gradspec.reference import OPS, Op
from gradspec.reference.arrays import unbroadcast

Array = Any
RuleResult = Any  # a VJP; its pullback may also return the gradients as a list
Rule = Callable[..., RuleResult]

VALUE_PROPERTY = "test_value_agrees"
GRADIENT_PROPERTY = "test_every_gradient_agrees"
SHAPES_PROPERTY = "test_shapes_and_dtypes_are_kept"
LAYOUTS_PROPERTY = "test_layout_makes_no_difference"
EVERY_LAYOUT_PROPERTY = "test_every_layout_in_turn_makes_no_difference"
RARE_PROPERTY = "test_rare_cases_agree"
MANY_ELEMENTS_PROPERTY = "test_cases_of_many_elements_agree"
KEYWORDS_PROPERTY = "test_keywords_at_their_ends_agree"
SECOND_ORDER_SIZES_PROPERTY = "test_second_derivatives_of_every_size_agree"
LINEARITY_PROPERTY = "test_pullback_is_linear_in_the_cotangent"
KINKS_PROPERTY = "test_gradient_at_kinks_is_a_legal_subgradient"
SHARED_INPUTS_PROPERTY = "test_one_array_may_be_given_twice"
CONSTANTS_PROPERTY = "test_other_arguments_may_be_constants"
SEVERAL_VALUES_PROPERTY = "test_all_cotangents_count_together"
PURITY_PROPERTY = "test_calls_leave_no_trace"
EXTREMES_PROPERTY = "test_extremes_go_where_the_spec_says"
ELEMENTWISE_EXTREMES_PROPERTY = "test_extremes_of_elementwise_ops_go_where_the_spec_says"
BATCHES_PROPERTY = "test_a_batch_equals_its_members"
SYMMETRIES_PROPERTY = "test_symmetries_are_kept"
BAD_INPUT_PROPERTY = "test_what_the_spec_refuses_raises"
SECOND_ORDER_PROPERTY = "test_second_derivatives_agree"
PROGRAMS_PROPERTY = "test_every_gradient_of_a_program_agrees"
DEPTH_PROPERTY = "test_a_chain_of_any_length_is_differentiated"
TRAINING_PROPERTY = "test_a_network_learns_as_the_spec_does"
SPEC_PROPERTY = "test_spec_agrees_with_numerical_differentiation"
STABILITY_PROPERTY = "test_spec_is_as_stable_as_its_function"
ADAPTER_PROPERTY = "test_arrays_and_gradients_pass_the_adapter"
TENSOR_PROPERTY = "test_program_text_observes_the_same"


@dataclass(frozen=True, eq=False)
class Fault:
    """One op done wrong in one way.

    Args:
        op: The op, or "programs" for an engine.
        kind: The family, a column of the table.
        name: What is wrong, in words, unique among the faults of the op.
        plant: Makes the backend.
        likely: The property to try first. This changes how long a trial takes and not how it ends.
        spec: The op that takes the spec's place, where it is the spec that is wrong.
        source: Where a historic bug was reported.
        spoil_spec: Where the spec itself is wrong, a context manager that spoils it for as long as it lasts.
    """

    op: str
    kind: str
    name: str
    plant: Callable[[], Backend]
    likely: str = GRADIENT_PROPERTY
    spec: Op | None = None
    source: str = ""
    spoil_spec: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __repr__(self) -> str:
        return f"{self.op}: {self.name}"


@dataclass(frozen=True, eq=False)
class CallContext:
    """A call of an op: its arrays, its keywords and the right value; of several values, the first."""

    op: Op
    xs: tuple[Array, ...]
    keywords: Mapping[str, Any]
    y: Array

    @property
    def x(self) -> Array:
        return self.xs[0]


@dataclass(frozen=True, eq=False)
class GradientContext(CallContext):
    """The right gradient of the i-th array of a call, about to be spoilt.

    Args:
        i: Which array of the call.
        g: The cotangent.
        unsummed_gradient: The gradient before it is summed over broadcast axes.
        pull_all: The pullbacks as one function: from any cotangent to such gradients of all arrays.
    """

    i: int = 0
    g: Array = None
    unsummed_gradient: Array = None
    pull_all: Callable[[Array], Sequence[Array]] = field(default=lambda g: ())

    @property
    def x(self) -> Array:
        return self.xs[self.i]

    @cached_property
    def gradient(self) -> Array:
        """The gradient in the shape of its array."""
        return unbroadcast_like(self.unsummed_gradient, self.x)

    def pull(self, g: Array) -> Array:
        """Return the gradient for another cotangent."""
        return unbroadcast_like(self.pull_all(g)[self.i], self.x)

    def scale(self, factor: Array) -> Array:
        """Return the gradient times a factor, in its own dtype."""
        return (self.gradient * factor).astype(self.gradient.dtype)

    def scale_where(self, mask: Array, factor: float = 2) -> Array:
        """Return the gradient, multiplied by the factor where the mask holds."""
        return self.scale(1 + (factor - 1) * mask)


def unbroadcast_like(d: Array, x: Array) -> Array:
    """Return the gradient d, summed over broadcast axes to the shape of x."""
    return d if d.shape == x.shape else unbroadcast(d, x.shape)


def apply_spec_rule(
    op: str | Op, *xs: Array, **keywords: Any
) -> tuple[Array, Callable[..., Sequence[Array]]]:
    """Return the value of the spec's rule, and a function from a cotangent to the gradients, some None.

    Of an op of several values these are a tuple, and a function of one cotangent per value.
    """
    y, pulls = (OPS[op] if isinstance(op, str) else op).rule(*xs, **keywords)
    if pulls is None or callable(pulls):
        return y, pulls or (lambda *gs: [None] * len(xs))
    return y, lambda *gs: [p and p(*gs) for p in pulls]


def cast_values(y: Array, like: Array) -> Array:
    """Return a value in the dtype of another, or each of several in that of its counterpart."""
    if isinstance(y, tuple):
        return tuple(v.astype(w.dtype) for v, w in zip(y, like, strict=True))
    return y.astype(like.dtype)


def spell_out_name(function: Callable[..., Any]) -> str:
    """Return the name of a function in words."""
    return function.__name__.replace("_", " ")
