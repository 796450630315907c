"""Cases of fewer elements than a given one: members of a batch, one element of an elementwise op."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.observed.batches import (
    change_along_batch,
    find_batch_axes,
    run_spec_quietly_or_none,
)
from gradspec.properties.judging.judgement import WrongElement
from gradspec.reference.rule import Array

MAX_MEMBERS_TRIED = 24
"""How many members of a batch are tried by themselves; the one with the wrong element is the first."""


def iterate_cuts(case: Case, wrong: WrongElement | None) -> Iterator[Case]:
    """Yield the case with fewer elements, the smallest first.

    Elementwise ops and those with a gufunc signature are cut down to one member of their loops, without its
    axes; then loops, and the axes along which others are observed to work on batches, to parts of them. Last,
    axes along which elements are combined are shortened where the spec takes what is left.

    Args:
        case: The case.
        wrong: The element that is wrong.
    """
    yield from _iterate_parts_of_batch(case, wrong)
    if not case.op.elementwise and case.cotangent.size:
        yield from _iterate_shorter_axes(case)


def _iterate_shorter_axes(case: Case) -> Iterator[Case]:
    """Yield the case with an axis of one input, or all axes of a length, shortened, if the spec takes it."""
    arrays = (*case.inputs, case.cotangent)
    axes = [(k, axis) for k, x in enumerate(arrays) for axis, n in enumerate(x.shape) if n > 1]
    lengths = sorted({arrays[k].shape[axis] for k, axis in axes})
    groups = [[(k, axis) for k, axis in axes if arrays[k].shape[axis] == n] for n in lengths]
    alone = [[(k, axis)] for k, axis in axes if k < len(case.inputs)]
    for group in (*groups, *alone):
        k, axis = group[0]
        for length in sorted({1, 2, arrays[k].shape[axis] // 2} & set(range(arrays[k].shape[axis]))):
            shorter = list(arrays)
            for i, a in group:
                shorter[i] = np.take(shorter[i], range(length), a)
            new = replace(case, inputs=tuple(shorter[:-1]), cotangent=shorter[-1])
            value = run_spec_quietly_or_none(new, forward=True)
            if value is not None and value.value.shape == new.cotangent.shape:
                yield new


def _iterate_parts_of_batch(case: Case, wrong: WrongElement | None) -> Iterator[Case]:
    """Yield members of the batch that a case is, and parts of it."""
    if case.op.signature is None:
        batch = find_batch_axes(case) if all(case.cotangent.shape) else None
        if batch is not None:
            for part in _iterate_parts(batch.member_count):
                yield change_along_batch(case, batch, lambda x, axis, part=part: np.take(x, part, axis))  # type: ignore[misc]
        return
    loop = find_loop_shape(case)
    if not loop or not math.prod(loop):
        return
    for position in _order_positions(case, loop, wrong):
        yield take_member(case, loop, position)
    for axis, length in enumerate(loop):
        for part in _iterate_parts(length):
            yield _take_along_loop(case, loop, axis, part)


def _iterate_parts(length: int) -> Iterator[Sequence[int]]:
    """Yield shorter ranges of indices: each by itself if they are few, the ends if not, and halves."""
    if length > 1:
        few = range(length) if length <= MAX_MEMBERS_TRIED else (0, length - 1)
        yield from ([i] for i in few)
        yield from (range(length // 2), range(length // 2, length))


def find_loop_shape(case: Case) -> tuple[int, ...]:
    """Return the shape of the loops over the core dimensions of an op with a gufunc signature."""
    shapes = [x.shape[:n] for x, n in zip(case.inputs, _count_loop_axes(case), strict=True)]
    loop = np.broadcast_shapes(*shapes)
    return loop if case.cotangent.shape[: len(loop)] == loop else ()


def _count_loop_axes(case: Case) -> list[int]:
    # Not strict: a bound of clip may be absent.
    return [x.ndim - min(x.ndim, core) for x, core in zip(case.inputs, case.op.core_ranks, strict=False)]


def _take_along_loop(case: Case, loop: tuple[int, ...], axis: int, part: Sequence[int]) -> Case:
    """Return the case with a part of one axis of its loops."""

    def take(x: Array, loop_axes: int) -> Array:
        own = axis - (len(loop) - loop_axes)
        return np.take(x, part, own) if own >= 0 and x.shape[own] == loop[axis] else x

    inputs = tuple(map(take, case.inputs, _count_loop_axes(case)))
    return replace(case, inputs=inputs, cotangent=take(case.cotangent, len(loop)))


def take_member(case: Case, loop: tuple[int, ...], position: tuple[int, ...]) -> Case:
    """Return the case at one position of its loops, without their axes."""
    for axis, i in enumerate(position):
        case = _take_along_loop(case, loop, axis, [i])
        loop = (*loop[:axis], 1, *loop[axis + 1 :])
    inputs = [x.reshape(x.shape[n:]) for x, n in zip(case.inputs, _count_loop_axes(case), strict=True)]
    return replace(
        case, inputs=tuple(inputs), cotangent=case.cotangent.reshape(case.cotangent.shape[len(loop) :])
    )


def _order_positions(
    case: Case, loop: tuple[int, ...], wrong: WrongElement | None
) -> Iterator[tuple[int, ...]]:
    """Yield positions of the loops: that of the wrong element, then those whose numbers are in no doubt."""
    first = _find_loop_position(case, loop, wrong)
    doubtful = np.zeros(loop, np.int64)
    for x, n in zip((*case.inputs, case.cotangent), (*_count_loop_axes(case), len(loop)), strict=True):
        wide = x.astype(np.float64)
        bad = (~np.isfinite(wide)).any(axis=tuple(range(n, x.ndim))) * 2
        doubtful = doubtful + bad + (wide == 0).all(axis=tuple(range(n, x.ndim)))
    order = map(int, np.argsort(doubtful, axis=None, kind="stable")[:MAX_MEMBERS_TRIED])
    positions = [tuple(map(int, np.unravel_index(i, loop))) for i in order]
    if first is not None:
        yield first
    yield from (position for position in positions if position != first)


def _find_loop_position(
    case: Case, loop: tuple[int, ...], wrong: WrongElement | None
) -> tuple[int, ...] | None:
    """Return a position of the loops that the wrong element comes from; None if that is not known."""
    if wrong is None:
        return None
    loop_axes = {f"gradient of {case.op.argument_name(i)}": n for i, n in enumerate(_count_loop_axes(case))}
    n = (loop_axes | {"value": len(loop)}).get(wrong.what)
    if n is None or len(wrong.at) < n:
        return None
    return (*(0,) * (len(loop) - n), *wrong.at[:n])


def find_cotangent_of(case: Case, wrong: WrongElement | None) -> Array:
    """Return the part of the cotangent that a wrong element comes from, where that is known, or all of it."""
    if not case.op.elementwise or wrong is None or not wrong.what.startswith("gradient of "):
        return case.cotangent
    position = _find_loop_position(case, case.cotangent.shape, wrong)
    if position is None or any(i >= n for i, n in zip(position, case.cotangent.shape, strict=True)):
        return case.cotangent
    of_input = next(x for i, x in enumerate(case.inputs) if wrong.what.endswith(case.op.argument_name(i)))
    return case.cotangent[position] if of_input.shape == case.cotangent.shape else case.cotangent
