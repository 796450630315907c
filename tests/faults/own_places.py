"""Faults of the ops that formulas are composed of: sums so far, places along an axis, edges, named axes."""

from typing import Any

import numpy as np

from gradspec.reference import OPS
from gradspec.reference.contraction import parse_subscripts
from tests.faults.fault import (
    SHAPES_PROPERTY,
    VALUE_PROPERTY,
    Array,
    RuleResult,
    apply_spec_rule,
)
from tests.faults.own import wrong_rule


@wrong_rule("stop_gradient", likely=VALUE_PROPERTY)
def stop_gradient_takes_zero_for_what_it_stops(x: Array) -> RuleResult:
    return np.zeros_like(x), None


@wrong_rule("stop_gradient")
def stop_gradient_stops_nothing(x: Array) -> RuleResult:
    return x.copy(), (lambda g: g,)


@wrong_rule("stop_gradient")
def stop_gradient_reverses_the_gradient(x: Array) -> RuleResult:
    return x.copy(), (lambda g: -g,)


@wrong_rule("stop_gradient")
def stop_gradient_stops_what_is_positive_alone(x: Array) -> RuleResult:
    return x.copy(), (lambda g: np.where(x > 0, 0, g).astype(x.dtype),)


# Sums so far


def drop_initial(g: Array, axis: int, include_initial: bool) -> Array:
    """Return the cotangent of a cumulative sum without that of the zero it may begin with."""
    return np.take(g, range(1, g.shape[axis]), axis) if include_initial else g


def pull_sums(g: Array, axis: int) -> Array:
    return np.flip(np.cumsum(np.flip(g, axis), axis, g.dtype), axis)


@wrong_rule("cumulative_sum")
def cumulative_sum_adds_up_its_cotangent_in_the_same_direction(
    x: Array, *, axis: Any = None, include_initial: bool = False
) -> RuleResult:
    y, _ = OPS["cumulative_sum"].rule(x, axis=axis, include_initial=include_initial)
    axis = axis or 0

    def pull(g: Array) -> Array:
        g = drop_initial(g, axis, include_initial)
        return np.cumsum(g, axis, g.dtype)

    return y, (pull,)


@wrong_rule("cumulative_sum")
def cumulative_sum_passes_the_sum_of_its_cotangent_to_all(
    x: Array, *, axis: Any = None, include_initial: bool = False
) -> RuleResult:
    y, (pull,) = OPS["cumulative_sum"].rule(x, axis=axis, include_initial=include_initial)  # type: ignore[misc]

    def pull_all(g: Array) -> Array:
        d = pull(g)  # type: ignore[misc]
        return np.broadcast_to(np.take(d, range(min(1, d.shape[axis or 0])), axis or 0), d.shape).copy()

    return y, (pull_all,)


@wrong_rule("cumulative_sum")
def cumulative_sum_drops_the_last_of_its_cotangent_for_the_initial(
    x: Array, *, axis: Any = None, include_initial: bool = False
) -> RuleResult:
    y, pulls = OPS["cumulative_sum"].rule(x, axis=axis, include_initial=include_initial)
    if not include_initial:
        return y, pulls
    return y, (lambda g: pull_sums(np.take(g, range(g.shape[axis or 0] - 1), axis or 0), axis or 0),)


@wrong_rule("cumulative_sum", likely=VALUE_PROPERTY)
def cumulative_sum_leaves_out_the_element_itself(
    x: Array, *, axis: Any = None, include_initial: bool = False
) -> RuleResult:
    y, pulls = OPS["cumulative_sum"].rule(x, axis=axis, include_initial=include_initial)
    return (y if include_initial else (y - x).astype(x.dtype)), pulls


@wrong_rule("cumulative_sum", likely=SHAPES_PROPERTY)
def cumulative_sum_forgets_the_initial(
    x: Array, *, axis: Any = None, include_initial: bool = False
) -> RuleResult:
    return OPS["cumulative_sum"].rule(x, axis=axis)


@wrong_rule("cumulative_sum", likely=VALUE_PROPERTY)
def cumulative_sum_counts_a_negative_axis_from_the_front(
    x: Array, *, axis: Any = None, include_initial: bool = False
) -> RuleResult:
    axis = None if axis is None else abs(axis) % x.ndim
    return OPS["cumulative_sum"].rule(x, axis=axis, include_initial=include_initial)


@wrong_rule("cumulative_sum")
def cumulative_sum_starts_anew_every_four(
    x: Array, *, axis: Any = None, include_initial: bool = False
) -> RuleResult:
    """Its backward pass works in blocks, and does not carry over."""
    y, _ = OPS["cumulative_sum"].rule(x, axis=axis, include_initial=include_initial)
    axis = axis or 0

    def pull(g: Array) -> Array:
        g = drop_initial(g, axis, include_initial)
        starts = range(0, max(g.shape[axis], 1), 4)
        blocks = [np.take(g, range(k, min(k + 4, g.shape[axis])), axis) for k in starts]
        return np.concatenate([pull_sums(block, axis) for block in blocks], axis)

    return y, (pull,)


# Places along an axis


@wrong_rule("take_along_axis")
def take_along_axis_writes_where_places_recur(x: Array, indices: Array, *, axis: int = -1) -> RuleResult:
    """The last one wins, where all must be added."""
    y, _ = OPS["take_along_axis"].rule(x, indices, axis=axis)

    def pull(g: Array) -> Array:
        d = np.zeros_like(x)
        np.put_along_axis(d, indices, g, axis)
        return d

    return y, (pull, None)


@wrong_rule("take_along_axis")
def take_along_axis_averages_where_places_recur(x: Array, indices: Array, *, axis: int = -1) -> RuleResult:
    y, (pull, _) = OPS["take_along_axis"].rule(x, indices, axis=axis)  # type: ignore[misc]
    count = pull(np.ones_like(y))  # type: ignore[misc]
    return y, (lambda g: pull(g) / np.maximum(count, 1), None)  # type: ignore[misc]


@wrong_rule("take_along_axis")
def take_along_axis_takes_the_gradient_from_the_places(
    x: Array, indices: Array, *, axis: int = -1
) -> RuleResult:
    """It gathers once more, where it must scatter: the shapes agree where as many are taken as there are."""
    y, (pull, _) = OPS["take_along_axis"].rule(x, indices, axis=axis)  # type: ignore[misc]

    def gather(g: Array) -> Array:
        return np.take_along_axis(g, indices, axis) if g.shape == x.shape else pull(g)  # type: ignore[misc]

    return y, (gather, None)


@wrong_rule("take_along_axis")
def take_along_axis_of_one_row_for_all_counts_the_first(
    x: Array, indices: Array, *, axis: int = -1
) -> RuleResult:
    """Of the rows of indices that share a row of x only the first reaches its gradient."""
    y, (pull, _) = OPS["take_along_axis"].rule(x, indices, axis=axis)  # type: ignore[misc]
    along = axis % x.ndim
    first = tuple(slice(0, 1) if i != along and n == 1 else slice(None) for i, n in enumerate(x.shape))
    counts = np.zeros(y.shape, np.bool_)
    counts[first] = True
    return y, (lambda g: pull(np.where(counts, g, 0)), None)  # type: ignore[misc]


@wrong_rule("take_along_axis", likely=VALUE_PROPERTY)
def take_along_axis_takes_the_first_row_s_places_for_all(
    x: Array, indices: Array, *, axis: int = -1
) -> RuleResult:
    along = axis % x.ndim
    first = (*(0 if i != along and n else slice(None) for i, n in enumerate(indices.shape)),)
    row = np.reshape(indices[first], [n if i == along else 1 for i, n in enumerate(indices.shape)])
    same = np.broadcast_to(row, indices.shape) if indices.size else indices
    return OPS["take_along_axis"].rule(x, same, axis=axis)


@wrong_rule("take_along_axis", likely=VALUE_PROPERTY)
def take_along_axis_takes_along_the_last(x: Array, indices: Array, *, axis: int = -1) -> RuleResult:
    fits = x.ndim > 1 and x.shape[:-1] == indices.shape[:-1] and np.all(indices < x.shape[-1])
    return OPS["take_along_axis"].rule(x, indices, axis=-1 if fits else axis)


@wrong_rule("index_add")
def index_add_passes_nothing_on_to_x_where_it_adds(
    x: Array, index: Array, source: Array, *, axis: int = 0
) -> RuleResult:
    """As index_copy does, which overwrites."""
    y, pulls = OPS["index_add"].rule(x, index, source, axis=axis)
    places = (*(slice(None),) * (axis % x.ndim), index)

    def pull_x(g: Array) -> Array:
        d = g.copy()
        d[places] = 0
        return d

    return y, (pull_x, *pulls[1:])  # type: ignore[index]


@wrong_rule("index_add", likely=VALUE_PROPERTY)
def index_add_adds_once_where_places_recur(
    x: Array, index: Array, source: Array, *, axis: int = 0
) -> RuleResult:
    y = x.copy()
    y[(*(slice(None),) * (axis % x.ndim), index)] += source
    return y, OPS["index_add"].rule(x, index, source, axis=axis)[1]


@wrong_rule("index_add")
def index_add_shares_out_its_cotangent_where_places_recur(
    x: Array, index: Array, source: Array, *, axis: int = 0
) -> RuleResult:
    y, (pull_x, _, pull_source) = OPS["index_add"].rule(x, index, source, axis=axis)  # type: ignore[misc]
    counts = np.bincount(index, minlength=1)[index].astype(x.dtype)
    shape = [len(index) if i == axis % x.ndim else 1 for i in range(x.ndim)]
    return y, (pull_x, None, lambda g: pull_source(g) / counts.reshape(shape))  # type: ignore[misc]


@wrong_rule("index_add")
def index_add_gives_source_the_first_of_its_cotangent(
    x: Array, index: Array, source: Array, *, axis: int = 0
) -> RuleResult:
    y, (pull_x, _, pull_source) = OPS["index_add"].rule(x, index, source, axis=axis)  # type: ignore[misc]

    def pull(g: Array) -> Array:
        fits = g.shape[axis] >= source.shape[axis]
        return np.take(g, range(source.shape[axis]), axis) if fits else pull_source(g)  # type: ignore[misc]

    return y, (pull_x, None, pull)


# Edges


@wrong_rule("pad")
def pad_cuts_its_cotangent_at_the_wrong_end(x: Array, *, pad_width: Any, value: float = 0.0) -> RuleResult:
    y, _ = OPS["pad"].rule(x, pad_width=pad_width, value=value)
    ends = tuple(slice(after, after + n) for (_, after), n in zip(pad_width, x.shape, strict=True))
    return y, (lambda g: g[ends],)


@wrong_rule("pad", likely=VALUE_PROPERTY)
def pad_takes_the_axes_in_reverse(x: Array, *, pad_width: Any, value: float = 0.0) -> RuleResult:
    return OPS["pad"].rule(x, pad_width=tuple(pad_width)[::-1], value=value)


@wrong_rule("pad", likely=VALUE_PROPERTY)
def pad_ignores_the_value(x: Array, *, pad_width: Any, value: float = 0.0) -> RuleResult:
    return OPS["pad"].rule(x, pad_width=pad_width)


@wrong_rule("pad", likely=SHAPES_PROPERTY)
def pad_takes_before_for_both_ends(x: Array, *, pad_width: Any, value: float = 0.0) -> RuleResult:
    return OPS["pad"].rule(x, pad_width=tuple((before, before) for before, _ in pad_width), value=value)


@wrong_rule("pad")
def pad_adds_the_edges_of_its_cotangent(x: Array, *, pad_width: Any, value: float = 0.0) -> RuleResult:
    """As padding that repeats the edge does."""
    y, (pull,) = OPS["pad"].rule(x, pad_width=pad_width, value=value)  # type: ignore[misc]
    before = pad_width[0][0] if x.ndim == 1 and x.size else 0

    def pull_edges(g: Array) -> Array:
        d = pull(g).copy()  # type: ignore[misc]
        if before:
            d[0] += np.sum(g[:before])
        return d

    return y, (pull_edges,)


# Named axes


@wrong_rule("einsum")
def einsum_gives_the_first_of_two_the_gradient_of_the_second(*xs: Array, subscripts: str) -> RuleResult:
    y, pull = apply_spec_rule("einsum", *xs, subscripts=subscripts)
    alike = len(xs) == 2 and xs[0].shape == xs[1].shape
    return y, lambda g: list(pull(g))[::-1] if alike else pull(g)


@wrong_rule("einsum")
def einsum_spreads_the_gradient_over_what_was_added_up(*xs: Array, subscripts: str) -> RuleResult:
    """It divides by the length of an axis that one array alone has."""
    y, pull = apply_spec_rule("einsum", *xs, subscripts=subscripts)
    if subscripts not in ("ij->j", "...i->..."):
        return y, pull
    n = xs[0].shape[0 if subscripts == "ij->j" else -1]
    return y, lambda g: [d / d.dtype.type(max(n, 1)) for d in pull(g)]


@wrong_rule("einsum")
def einsum_fills_a_matrix_with_the_gradient_of_its_diagonal(*xs: Array, subscripts: str) -> RuleResult:
    y, pull = apply_spec_rule("einsum", *xs, subscripts=subscripts)
    if subscripts != "ii->i":
        return y, pull
    return y, lambda g: [np.broadcast_to(g, xs[0].shape).copy()]


@wrong_rule("einsum")
def einsum_counts_the_diagonal_twice(*xs: Array, subscripts: str) -> RuleResult:
    y, pull = apply_spec_rule("einsum", *xs, subscripts=subscripts)
    return y, lambda g: [d * 2 for d in pull(g)] if subscripts in ("ii", "ii->i") else pull(g)


@wrong_rule("einsum", likely=SHAPES_PROPERTY)
def einsum_puts_the_axes_of_dots_last(*xs: Array, subscripts: str) -> RuleResult:
    y, pull = apply_spec_rule("einsum", *xs, subscripts=subscripts)
    if subscripts != "...ij,...jk->...ik" or y.ndim < 3:
        return y, pull
    return np.moveaxis(y, (-2, -1), (0, 1)), lambda g: pull(np.moveaxis(g, (0, 1), (-2, -1)))


@wrong_rule("einsum", likely=VALUE_PROPERTY)
def einsum_orders_the_axes_as_they_come(*xs: Array, subscripts: str) -> RuleResult:
    """Without an arrow, the axes of the result are in the order of the alphabet."""
    y, pull = apply_spec_rule("einsum", *xs, subscripts=subscripts)
    _, result = parse_subscripts(subscripts, [x.ndim for x in xs])
    if subscripts != "ij->ji" or len(result) != 2 or xs[0].shape[0] != xs[0].shape[1]:
        return y, pull
    return xs[0].copy(), pull
