"""Faults of ops that move elements: wrong orders, inverses and offsets, indices that recur."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from gradspec.reference import OPS, record
from tests.faults import planted_backends
from tests.faults.fault import (
    PURITY_PROPERTY,
    SHAPES_PROPERTY,
    VALUE_PROPERTY,
    Array,
    Fault,
    RuleResult,
    apply_spec_rule,
    spell_out_name,
)
from tests.faults.own import KIND_OWN, register_fault, wrong_rule

Key = Any


@wrong_rule("reshape")
def reshape_back_in_fortran_order(x: Array, *, shape: Any) -> RuleResult:
    return np.reshape(x, shape), (lambda g: np.reshape(g, x.shape, order="F"),)


@wrong_rule("reshape", likely=VALUE_PROPERTY)
def reshape_in_fortran_order(x: Array, *, shape: Any) -> RuleResult:
    return np.reshape(x, shape, order="F"), (lambda g: np.reshape(g, x.shape),)


@wrong_rule("reshape", likely=SHAPES_PROPERTY)
def reshape_takes_minus_one_for_one(x: Array, *, shape: Any) -> RuleResult:
    return np.reshape(x, tuple(1 if n == -1 else n for n in shape)), (lambda g: np.reshape(g, x.shape),)


@wrong_rule("permute_dims")
def permute_dims_by_the_axes_themselves(x: Array, *, axes: Any) -> RuleResult:
    return np.permute_dims(x, axes), (lambda g: np.reshape(np.permute_dims(g, axes), x.shape),)


@wrong_rule("permute_dims", likely=SHAPES_PROPERTY)
def permute_dims_reverses_all(x: Array, *, axes: Any) -> RuleResult:
    return x.T, (lambda g: g.T,)


@wrong_rule("matrix_transpose", likely=SHAPES_PROPERTY)
def matrix_transpose_reverses_all_axes(x: Array) -> RuleResult:
    return x.T, (lambda g: g.T,)


@wrong_rule("matrix_transpose")
def matrix_transpose_reshapes_back(x: Array) -> RuleResult:
    return np.matrix_transpose(x), (lambda g: np.reshape(g, x.shape),)


@wrong_rule("expand_dims", likely=SHAPES_PROPERTY)
def expand_dims_counts_from_the_rank_of_x(x: Array, *, axis: Any) -> RuleResult:
    axes = (axis,) if isinstance(axis, int) else axis
    y = np.expand_dims(x, tuple(a if a >= 0 else max(a + x.ndim, 0) for a in axes))
    return y, OPS["expand_dims"].rule(x, axis=axis)[1]


@wrong_rule("expand_dims", likely=SHAPES_PROPERTY)
def expand_dims_puts_the_axis_last(x: Array, *, axis: Any) -> RuleResult:
    n = 1 if isinstance(axis, int) else len(axis)
    return np.reshape(x, (*x.shape, *(1,) * n)), (lambda g: np.reshape(g, x.shape),)


@wrong_rule("squeeze", likely=SHAPES_PROPERTY)
def squeeze_removes_all_axes_of_length_one(x: Array, *, axis: Any) -> RuleResult:
    return np.squeeze(x), (lambda g: np.reshape(g, x.shape),)


@wrong_rule("squeeze", likely=SHAPES_PROPERTY)
def squeeze_ignores_negative_axes(x: Array, *, axis: Any) -> RuleResult:
    axes = (axis,) if isinstance(axis, int) else axis
    return np.squeeze(x, tuple(a for a in axes if a >= 0)), (lambda g: np.reshape(g, x.shape),)


@wrong_rule("broadcast_to", likely=VALUE_PROPERTY)
def broadcast_to_repeats_the_elements(x: Array, *, shape: Any) -> RuleResult:
    return np.resize(x, shape), (lambda g: g,)


@wrong_rule("broadcast_to")
def broadcast_to_keeps_the_last_gradient(x: Array, *, shape: Any) -> RuleResult:
    def pull(g: Array) -> Array:
        d = g[(-1,) * (g.ndim - x.ndim)] if g.size else np.sum(g, axis=tuple(range(g.ndim - x.ndim)))
        return d

    return np.broadcast_to(x, shape), (pull,)


@wrong_rule("flip")
def flip_is_not_flipped_back(x: Array, *, axis: Any = None) -> RuleResult:
    return np.flip(x, axis), (lambda g: g,)


@wrong_rule("flip", likely=VALUE_PROPERTY)
def flip_reverses_all_axes(x: Array, *, axis: Any = None) -> RuleResult:
    return np.flip(x), (lambda g: np.flip(g, axis),)


@wrong_rule("flip")
def flip_reverses_all_axes_back(x: Array, *, axis: Any = None) -> RuleResult:
    return np.flip(x, axis), (np.flip,)


def split_at_lengths(g: Array, lengths: list[int], axis: int, shift: int = 0) -> list[Array]:
    """Return the cotangent cut at the ends of these lengths, or `shift` places later."""
    ends = list(itertools.accumulate(lengths, initial=0))
    return [np.take(np.roll(g, -shift, axis), range(a, b), axis) for a, b in itertools.pairwise(ends)]


@wrong_rule("concat")
def concat_gives_its_arrays_gradients_in_reverse(*xs: Array, axis: int = 0) -> RuleResult:
    y, pull = apply_spec_rule("concat", *xs, axis=axis)
    alike = len({x.shape for x in xs}) == 1
    return y, lambda g: tuple(pull(g))[::-1] if alike else pull(g)


@wrong_rule("concat")
def concat_cuts_one_place_later(*xs: Array, axis: int = 0) -> RuleResult:
    y, _ = apply_spec_rule("concat", *xs, axis=axis)
    return y, lambda g: split_at_lengths(g, [x.shape[axis] for x in xs], axis, shift=1)


@wrong_rule("concat")
def concat_divides_its_gradients_by_the_count(*xs: Array, axis: int = 0) -> RuleResult:
    y, pull = apply_spec_rule("concat", *xs, axis=axis)
    return y, lambda g: [d / d.dtype.type(len(xs)) for d in pull(g)]


@wrong_rule("stack")
def stack_gives_its_arrays_gradients_in_reverse(*xs: Array, axis: int = 0) -> RuleResult:
    y, pull = apply_spec_rule("stack", *xs, axis=axis)
    return y, lambda g: tuple(pull(g))[::-1]


@wrong_rule("stack")
def stack_gives_every_array_the_first_gradient(*xs: Array, axis: int = 0) -> RuleResult:
    y, pull = apply_spec_rule("stack", *xs, axis=axis)
    return y, lambda g: [pull(g)[0].copy() for _ in xs]


@wrong_rule("stack", likely=SHAPES_PROPERTY)
def stack_joins_at_the_front(*xs: Array, axis: int = 0) -> RuleResult:
    return np.stack(xs), OPS["stack"].rule(*xs)[1]


def scatter(x: Array, key: Key, g: Array) -> Array:
    """Return an array of the shape of x that holds g at the key and 0 elsewhere."""
    d = np.zeros(x.shape, g.dtype)
    d[key] = g
    return d


@wrong_rule("getitem")
def getitem_spreads_its_gradient_over_recurring_indices(x: Array, *, key: Key) -> RuleResult:
    times = np.zeros(x.shape, x.dtype)
    np.add.at(times, key, 1)
    y, (pull,) = OPS["getitem"].rule(x, key=key)  # type: ignore[misc]
    return y, (lambda g: pull(g) / np.maximum(times, 1),)  # type: ignore[misc]


@wrong_rule("getitem")
def getitem_ignores_the_step_backwards(x: Array, *, key: Key) -> RuleResult:
    def forwards(part: Any) -> Any:
        backwards = isinstance(part, slice) and part.step == -1 and part.start is part.stop is None
        return slice(None) if backwards else part

    plain = tuple(map(forwards, key)) if isinstance(key, tuple) else key
    y, _ = OPS["getitem"].rule(x, key=key)
    return y, OPS["getitem"].rule(x, key=plain)[1]


@wrong_rule("getitem", likely=VALUE_PROPERTY)
def getitem_takes_negative_indices_for_zero(x: Array, *, key: Key) -> RuleResult:
    def positive(part: Any) -> Any:
        is_index = isinstance(part, int) or (isinstance(part, np.ndarray) and part.dtype != np.bool_)
        return np.maximum(part, 0) if is_index else part

    return OPS["getitem"].rule(x, key=tuple(map(positive, key)) if isinstance(key, tuple) else key)


@wrong_rule("getitem")
def getitem_turns_the_mask_around_in_its_gradient(x: Array, *, key: Key) -> RuleResult:
    y, pulls = OPS["getitem"].rule(x, key=key)
    if not isinstance(key, np.ndarray) or 2 * int(key.sum()) != key.size:
        return y, pulls
    return y, (lambda g: scatter(x, ~key, g),)


def getitem_keeps_the_index_it_was_lent(x: Any, *, key: Key) -> Any:
    """Apply getitem; its pullback reads the key when it is called, whatever was written to it since."""
    rule: Any = OPS["getitem"].rule

    def late_rule(x: Array) -> RuleResult:
        def pull(g: Array) -> Array:
            return rule(x, key=key)[1][0](g)

        return rule(x, key=key)[0], (pull,)

    return record(late_rule)(x)


register_fault(
    Fault(
        "getitem",
        KIND_OWN,
        spell_out_name(getitem_keeps_the_index_it_was_lent),
        lambda: replace(
            planted_backends.SPEC_BACKEND, name="faulty", ops={"getitem": getitem_keeps_the_index_it_was_lent}
        ),
        PURITY_PROPERTY,
    )
)
