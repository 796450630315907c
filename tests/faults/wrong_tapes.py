"""The spec on a tape that is wrong where a value is used twice, or where a function is nested in another."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

from gradspec.backends import Backend
from gradspec.reference import Variable, backward, tape
from tests.faults.fault import Array
from tests.faults.planted_backends import SPEC_BACKEND


def a_zero_dimensional_value_used_twice_counts_once() -> Backend:
    return _count_once_where(lambda x: x.data is not None and x.data.ndim == 0)


def a_value_with_two_consumers_counts_the_last() -> Backend:
    return _count_once_where(lambda x: x.data is not None and bool(x._parents))


def _count_once_where(affected: Callable[[Variable], bool]) -> Backend:
    """Return the spec with a tape that keeps the first cotangent that reaches an affected variable."""
    right = backward.run_backward

    def run_backward(root: Any, g: Array, create_graph: bool, inputs: frozenset[int]) -> Any:
        paid = set[int]()

        def pay_once(x: Variable, pull: Callable[[Array], Array]) -> Callable[[Array], Array]:
            def pullback(g: Array) -> Array:
                first = x._sequence_nr not in paid
                paid.add(x._sequence_nr)
                return pull(g) if first else 0 * pull(g)

            return pullback

        waiting, seen = [root], set[int]()
        restore = []
        while waiting:
            v = waiting.pop()
            if v._sequence_nr in seen or not v._parents:
                continue
            seen.add(v._sequence_nr)
            waiting.extend(x for x in v._parents if x is not None)
            if type(v._pullbacks) is tuple and any(x is not None and affected(x) for x in v._parents):
                restore.append((v, v._pullbacks))
                v._pullbacks = tuple(
                    pay_once(x, p) if x is not None and p is not None and affected(x) else p
                    for x, p in zip(v._parents, v._pullbacks, strict=False)
                )
        try:
            return right(root, g, create_graph, inputs)
        finally:
            for v, pullbacks in restore:
                v._pullbacks = pullbacks

    return _with_tape("counts_once", run_backward=run_backward)


def an_inner_variable_is_the_outer_one() -> Backend:
    """A function within a function is called with the outer variable itself, and so are its closures."""

    def share(x: Variable) -> Variable:
        return x if x.requires_grad else tape_alias(x)

    tape_alias = tape._make_alias
    return _with_tape("confused", _make_alias=share)


def what_an_inner_function_closes_over_is_constant() -> Backend:
    return _with_tape("detached", depends_on_older=lambda value, leaves: False)


def an_inner_pass_pays_the_outer_variables_too() -> Backend:
    """Perturbation confusion: x * d/dy (x + y) has the gradient 2, since the inner pass pays x as well."""

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        value, pullback = SPEC_BACKEND.vjp(fn, *inputs)

        def confused(g: Array) -> Any:
            gradients = pullback(g)
            if not isinstance(value, Variable) or value.data.shape != gradients[0].data.shape:
                return gradients
            # Zero, but for its gradient: that of the inner value by all that it was computed from.
            leak = SPEC_BACKEND.ops["subtract"](value, value.data)
            return SPEC_BACKEND.ops["add"](gradients[0], leak), *gradients[1:]

        return value, confused

    return replace(SPEC_BACKEND, name="leaks", vjp=vjp)


def _with_tape(name: str, **changes: Any) -> Backend:
    """Return the spec on a tape with some of its functions changed."""

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        with mock.patch.multiple(tape, **changes):
            value, pullback = SPEC_BACKEND.vjp(fn, *inputs)

        def patched_pullback(g: Array) -> Any:
            with mock.patch.multiple(tape, **changes):
                return pullback(g)

        return value, patched_pullback

    return replace(SPEC_BACKEND, name=name, vjp=vjp)
