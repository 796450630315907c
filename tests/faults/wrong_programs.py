"""Faults that only programs show: of ops that meet each other or themselves, and of nested functions."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.reference import Variable, record
from gradspec.reference.dispatch import unwrap
from tests.faults.fault import PROGRAMS_PROPERTY, Array, Fault, apply_spec_rule, spell_out_name
from tests.faults.planted_backends import SPEC_BACKEND, plant_rule
from tests.faults.wrong_tapes import (
    a_value_with_two_consumers_counts_the_last,
    a_zero_dimensional_value_used_twice_counts_once,
    an_inner_pass_pays_the_outer_variables_too,
    an_inner_variable_is_the_outer_one,
    what_an_inner_function_closes_over_is_constant,
)

KIND_PROGRAM = "program"


def _plant(op: str, rule: Callable[..., Any]) -> Backend:
    return plant_rule(op, rule)


# Ops that meet themselves


def matmul_by_itself_counts_its_left_side() -> Backend:
    """Where both operands are one array, the gradient of the second is taken for that of the first."""

    def rule(*xs: Array) -> Any:
        z, pull = apply_spec_rule("matmul", *xs)
        same = xs[0] is xs[1] or (xs[0].shape == xs[1].shape and np.array_equal(xs[0], xs[1]))
        return z, lambda g: [d if not same or i == 0 else 0 * d for i, d in enumerate(pull(g))]

    return _plant("matmul", rule)


# Masks


def where_leaks_the_nan_of_the_branch_not_taken() -> Backend:
    """The gradient of one branch is masked by a product with the other's numbers in it."""

    def rule(condition: Array, x: Array, y: Array) -> Any:
        z, pull = apply_spec_rule("where", condition, x, y)

        def leak(g: Array) -> Any:
            _, dx, dy = pull(g)
            return None, dx + 0 * y, dy + 0 * x

        return z, leak

    return _plant("where", rule)


def where_multiplies_by_its_mask() -> Backend:
    """The value is mask * x + (1 - mask) * y, which is NaN where the branch not taken is."""

    def rule(condition: Array, x: Array, y: Array) -> Any:
        _, pull = apply_spec_rule("where", condition, x, y)
        return np.asarray(condition * x + ~condition * y), pull

    return _plant("where", rule)


def where_drops_all_beside_a_nan() -> Backend:
    """If anything in a branch is undefined, all its gradients are zeros."""

    def rule(condition: Array, x: Array, y: Array) -> Any:
        z, pull = apply_spec_rule("where", condition, x, y)
        bad = not np.all(np.isfinite(x)) or not np.all(np.isfinite(y))
        return z, lambda g: [d if d is None else d * 0 if bad else d for d in pull(g)]

    return _plant("where", rule)


def log_clamps_what_it_is_undefined_at() -> Backend:
    """Where x <= 0, the gradient of log is 1e-3, whatever a mask lets through."""

    def rule(x: Array) -> Any:
        return np.log(x), (lambda g: np.where(x > 0, g / x, g + 1e-3),)

    return _plant("log", rule)


def sqrt_of_a_zero_spoils_its_row() -> Backend:
    """Elements beside one at which sqrt is undefined have no gradient."""

    def rule(x: Array) -> Any:
        y = np.sqrt(x)
        return y, (lambda g: g / 2 / y if np.all(x > 0) else g * np.nan,)

    return _plant("sqrt", rule)


def comparisons_carry_gradients() -> Backend:
    """A comparison passes on gradients as if it were the identity ("straight through")."""
    compared: dict[int, tuple[Any, Any]] = {}

    def make_comparison(name: str) -> Callable[..., Any]:
        def compare(x: Any, y: Any) -> Any:
            truth = SPEC_BACKEND.ops[name](x, y)
            if isinstance(x, Variable):
                compared[id(truth)] = truth, x
            return truth

        return compare

    def where(condition: Any, x: Any, y: Any) -> Any:
        z = SPEC_BACKEND.ops["where"](condition, x, y)
        if id(condition) not in compared:
            return z
        through = compared[id(condition)][1]
        return SPEC_BACKEND.ops["add"](z, SPEC_BACKEND.ops["subtract"](through, through.data))

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        compared.clear()
        return SPEC_BACKEND.vjp(fn, *inputs)

    comparisons = {name: make_comparison(name) for name in ("less", "greater", "equal")}
    ops = {**SPEC_BACKEND.ops, "where": where, **comparisons}
    return replace(SPEC_BACKEND, name="straight_through", ops=ops, vjp=vjp, nests=False)


# Memory and shapes


def an_index_that_overlaps_is_lost_beside_another_use() -> Backend:
    """An element that is selected twice is paid once, if the gradient is added to another."""

    def rule(x: Array, *, key: Any) -> Any:
        def pull(g: Array) -> Array:
            d = np.zeros_like(g, shape=x.shape, subok=False)
            d[key] = g
            return d

        return x[key], (pull,)

    return _plant("getitem", rule)


def reshape_reads_a_transposed_cotangent_in_memory_order() -> Backend:
    def rule(x: Array, *, shape: Any) -> Any:
        y = np.reshape(x, shape)
        return y, (lambda g: np.reshape(np.ravel(g, order="K"), x.shape),)

    return _plant("reshape", rule)


def reshape_reads_a_transposed_array_in_memory_order() -> Backend:
    def rule(x: Array, *, shape: Any) -> Any:
        y = np.reshape(np.ravel(x, order="K"), shape)
        return y, (lambda g: np.reshape(g, x.shape),)

    return _plant("reshape", rule)


def permute_dims_twice_goes_back_once() -> Backend:
    """The gradient goes the way of the value: right for swaps of two axes alone."""

    def rule(x: Array, *, axes: Any) -> Any:
        return np.permute_dims(x, axes), (lambda g: np.permute_dims(g, axes),)

    return _plant("permute_dims", rule)


def a_reshape_of_a_permutation_is_fused_with_its_axes_for_their_inverse() -> Backend:
    """Both are one node of the graph, whose gradient is permuted by the same axes once more."""
    permuted: dict[int, tuple[Any, Any, Any]] = {}

    def fused(x: Array, *, axes: Any, shape: Any) -> Any:
        y = np.permute_dims(x, axes)
        return np.reshape(y, shape), (
            lambda g: np.reshape(np.permute_dims(np.reshape(g, y.shape), axes), x.shape),
        )

    recorded = record(fused)

    def permute_dims(x: Any, *, axes: Any) -> Any:
        y = SPEC_BACKEND.ops["permute_dims"](x, axes=axes)
        permuted[id(y)] = y, x, axes
        return y

    def reshape(x: Any, *, shape: Any) -> Any:
        if isinstance(x, Variable) and id(x) in permuted:
            return recorded(permuted[id(x)][1], axes=permuted[id(x)][2], shape=shape)
        return SPEC_BACKEND.ops["reshape"](x, shape=shape)

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        permuted.clear()
        return SPEC_BACKEND.vjp(fn, *inputs)

    ops: dict[str, Any] = {**SPEC_BACKEND.ops, "permute_dims": permute_dims, "reshape": reshape}
    return replace(SPEC_BACKEND, name="fuses", ops=ops, vjp=vjp, nests=False)


def rank_zero_with_rank_three_is_summed_over_two_axes(op: str = "multiply") -> Backend:
    """The gradient of a 0-d operand beside one of three axes or more leaves out all but one of the last."""

    def rule(*xs: Array) -> Any:
        z, pull = apply_spec_rule(op, *xs)

        def sum_too_little(g: Array) -> Any:
            parts = pull(g)
            return [
                d[..., :1] + 0 * d if np.ndim(x) == 0 and np.ndim(z) >= 3 else d
                for x, d in zip(xs, parts, strict=True)
            ]

        return z, sum_too_little

    return _plant(op, rule)


# The pullback


def the_first_call_is_a_rehearsal() -> Backend:
    """The first call of a pullback returns the gradients of a cotangent of ones."""

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        value, pullback = SPEC_BACKEND.vjp(fn, *inputs)
        calls: list[Any] = []

        def rehearse(g: Array) -> Any:
            calls.append(g)
            return pullback(np.ones_like(g) if len(calls) == 1 else g)

        return value, rehearse

    return replace(SPEC_BACKEND, name="rehearses", vjp=vjp, nests=False)


def the_value_of_an_inner_vjp_is_a_constant() -> Backend:
    """A vjp within another cuts its value off the graph, and differentiates the gradient alone."""

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        value, pullback = SPEC_BACKEND.vjp(fn, *inputs)
        return unwrap(value), pullback

    return replace(SPEC_BACKEND, name="cuts_off", vjp=vjp)


# What is stopped


def what_is_stopped_is_taken_for_itself() -> Backend:
    """stop_gradient(x) beside x is a common subexpression: x * stop_gradient(x) becomes a square."""
    stopped: dict[int, tuple[Any, Any]] = {}

    def stop(x: Any) -> Any:
        y = SPEC_BACKEND.ops["stop_gradient"](x)
        stopped[id(y)] = y, x
        return y

    def multiply(x: Any, y: Any) -> Any:
        of = [stopped[id(z)][1] if id(z) in stopped else z for z in (x, y)]
        return SPEC_BACKEND.ops["multiply"](*(of if of[0] is of[1] else (x, y)))

    return replace(SPEC_BACKEND, ops={**SPEC_BACKEND.ops, "stop_gradient": stop, "multiply": multiply})


WRONG_PROGRAMS: dict[Callable[[], Backend], str] = {
    a_zero_dimensional_value_used_twice_counts_once: "programs",
    a_value_with_two_consumers_counts_the_last: "programs",
    an_inner_variable_is_the_outer_one: "programs",
    what_an_inner_function_closes_over_is_constant: "programs",
    an_inner_pass_pays_the_outer_variables_too: "programs",
    where_leaks_the_nan_of_the_branch_not_taken: "where",
    where_multiplies_by_its_mask: "where",
    where_drops_all_beside_a_nan: "where",
    log_clamps_what_it_is_undefined_at: "log",
    sqrt_of_a_zero_spoils_its_row: "sqrt",
    comparisons_carry_gradients: "programs",
    matmul_by_itself_counts_its_left_side: "matmul",
    what_is_stopped_is_taken_for_itself: "programs",
    an_index_that_overlaps_is_lost_beside_another_use: "getitem",
    reshape_reads_a_transposed_cotangent_in_memory_order: "reshape",
    reshape_reads_a_transposed_array_in_memory_order: "reshape",
    permute_dims_twice_goes_back_once: "permute_dims",
    rank_zero_with_rank_three_is_summed_over_two_axes: "multiply",
    the_first_call_is_a_rehearsal: "programs",
    the_value_of_an_inner_vjp_is_a_constant: "programs",
    a_reshape_of_a_permutation_is_fused_with_its_axes_for_their_inverse: "programs",
}
"""Makers of backends that are wrong in programs, named by what is wrong, and the op where it is one."""


def make_program_faults() -> Iterator[Fault]:
    """Yield the faults of this module."""
    for make_backend, op in WRONG_PROGRAMS.items():
        yield Fault(op, KIND_PROGRAM, spell_out_name(make_backend), make_backend, PROGRAMS_PROPERTY)
