"""Along which axes a call is a batch of calls that do not depend on each other: observed from the spec.

An axis of the value is one of a batch if the spec of each member is the member of the spec, value and
gradients, each input having the members along an axis of its own or being shared by all of them. Axes that
the op's calls always have equally long are of a batch together, or not at all. A gufunc signature declares
such axes.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import Result
from gradspec.properties.cases.literals import literal
from gradspec.properties.cases.observed.lengths import observe_tied_lengths
from gradspec.properties.cases.observed.sample_cases import (
    are_same,
    fill_at_random,
    make_sample_cases,
    observe_once,
    run_spec_quietly,
)
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

MAX_COMBINATIONS = 16
"""How many ways in which the inputs may have the members are tried for one axis of the value."""

REPETITIONS = 2
"""How often the members are repeated, to see that an axis may have any length."""

OBSERVED_MEMBERS = 2
"""How many members of a batch are looked at."""


@dataclass(frozen=True)
class BatchAxes:
    """The batch axis of a case: in the value, and in each input (None for inputs that all members share)."""

    value_axis: int
    input_axes: tuple[int | None, ...]
    member_count: int


def find_batch_axes(case: Case) -> BatchAxes | None:
    """Return the axes along which the case is a batch of smaller ones; None if it is not a batch.

    They follow from the shapes and the keywords. Of several such axes of the value it is the first from one
    that differs from call to call.
    """
    if case.op.broadcasts:
        return _find_loop_axes(case)
    return _observe_batch_axes(_CallOfCase(case))


@observe_once
def may_be_batch(op: Op) -> bool:
    """Return whether calls of the op are batches, at least some of them."""
    return op.broadcasts or any(find_batch_axes(case) for case in make_sample_cases(op))


def _find_loop_axes(case: Case) -> BatchAxes | None:
    """Return the first loop dimension of an op with a gufunc signature; None if it has none.

    The arrays may have fewer core dimensions than declared.
    """
    # Not strict: a bound of clip may be absent.
    ranked_inputs = zip(case.inputs, case.op.core_ranks, strict=False)
    loop_shapes = [x.shape[: x.ndim - min(x.ndim, core)] for x, core in ranked_inputs]
    whole = np.broadcast_shapes(*loop_shapes)
    axes = tuple(0 if s and len(s) == len(whole) and s[0] == whole[0] else None for s in loop_shapes)
    return BatchAxes(0, axes, whole[0]) if whole else None


class _CallOfCase:
    """A case, equal to any other of the same call: what is observed of one holds for the other."""

    def __init__(self, case: Case) -> None:
        self.case = case
        integers = tuple(x.tobytes() for x in case.inputs if x.dtype.kind in "iu")
        shapes = tuple((x.shape, x.dtype.kind) for x in case.inputs)
        self.key = case.op, case.op.rule, shapes, integers, literal(case.keywords)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _CallOfCase) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=256)
def _observe_batch_axes(call: _CallOfCase) -> BatchAxes | None:
    """Return the batch axes of a call of an op without a signature."""
    case, shape = call.case, call.case.cotangent.shape
    if not all(shape):
        return None
    start = sum(shape) % max(len(shape), 1)
    influences = None
    tied = observe_tied_lengths(case.op, tuple(x.ndim for x in case.inputs))
    for value_axis in (*range(start, len(shape)), *range(start)):
        if shape[value_axis] > 1:
            influences = influences or _observe_influences(_fill_anew(case))
            options = [influence.list_axes(value_axis) for influence in influences]
        else:
            options = [[*(axis for axis, n in enumerate(x.shape) if n == 1), None] for x in case.inputs]
        for axes in itertools.islice(itertools.product(*options), MAX_COMBINATIONS):
            batch = BatchAxes(value_axis, axes, shape[value_axis])
            if not any(axis is not None for axis in axes) or not tied.allow_change(axes):
                continue
            if _is_batch_of_new_members(case, batch):
                return batch
    return None


def _is_batch_of_new_members(case: Case, batch: BatchAxes) -> bool:
    """Return whether a few members like those of a case, with other numbers, are a batch."""
    few = [min(i, batch.member_count - 1) for i in range(OBSERVED_MEMBERS)]
    resized = change_along_batch(case, batch, lambda x, axis: np.take(x, few, axis))
    return is_batch(_fill_anew(resized), replace(batch, member_count=OBSERVED_MEMBERS))


def _fill_anew(case: Case) -> Case:
    """Return the case in float64, with elements of which few are alike; integers remain."""
    rng = np.random.default_rng(0)
    inputs = tuple(
        x if x.dtype.kind in "iu" else fill_at_random(case.op.domain(i), x.shape, rng)
        for i, x in enumerate(case.inputs)
    )
    return replace(
        case, dtype="float64", inputs=inputs, cotangent=rng.standard_normal(case.cotangent.shape), layouts=()
    )


@dataclass(frozen=True)
class _Influence:
    """Where the value changes if an input does.

    Attributes:
        shape: The shape of the input.
        value_shape: The shape of the value.
        changed: For each axis of the input that may be one of a batch, where the value is another once the
            first slice of the input along it is.
    """

    shape: tuple[int, ...]
    value_shape: tuple[int, ...]
    changed: dict[int, Array]

    def list_axes(self, value_axis: int) -> list[int | None]:
        """Return along which axes the input may have the members of the value; None for none of them."""
        length = self.value_shape[value_axis]
        fitting = [axis for axis in self.changed if self.shape[axis] == length]
        if not any(np.any(changed) for changed in self.changed.values()):
            return [*fitting, None]
        others = (*(slice(None),) * value_axis, slice(1, None))
        alone = [a for a in fitting if np.any(self.changed[a]) and not np.any(self.changed[a][others])]
        return [*alone, None]


def _observe_influences(case: Case) -> list[_Influence]:
    """Return the influence of each input of a case."""
    before, influences = run_spec_quietly_or_none(case, forward=True), []
    rng = np.random.default_rng(1)
    for i, x in enumerate(case.inputs):
        other = rng.permutation(x.ravel()).reshape(x.shape) if x.dtype.kind in "iu" else None
        other = fill_at_random(case.op.domain(i), x.shape, rng) if other is None else other
        changed = {}
        for axis in range(x.ndim):
            if x.shape[axis] < 2 or x.shape[axis] not in case.cotangent.shape or before is None:
                continue
            first: Any = (*(slice(None),) * axis, 0)
            moved = x.copy()
            moved[first] = other[first]
            after = run_spec_quietly_or_none(case.with_input(i, moved), forward=True)
            if after is not None and after.value.shape == before.value.shape:
                changed[axis] = after.value != before.value
        influences.append(_Influence(x.shape, case.cotangent.shape, changed))
    return influences


def run_spec_quietly_or_none(case: Case, forward: bool = False) -> Result | None:
    """Return what the spec gives, or None where it refuses the case; the value alone with `forward`."""
    try:
        if forward:
            with np.errstate(all="ignore"):
                return Result(np.asarray(case.op.compute_value(*case.inputs, **case.keywords)), {})
        return run_spec_quietly(case)
    except (ValueError, IndexError, TypeError, ZeroDivisionError):
        return None


def change_along_batch(case: Case, batch: BatchAxes, change: Callable[[Array, int], Array]) -> Case:
    """Return the case with every array that has a batch axis, and the cotangent, changed along that axis."""
    inputs = tuple(
        x if axis is None else change(x, axis) for x, axis in zip(case.inputs, batch.input_axes, strict=True)
    )
    return replace(case, inputs=inputs, cotangent=change(case.cotangent, batch.value_axis))


def repeat_batch(case: Case, batch: BatchAxes, times: int) -> Case:
    """Return the case with all members of the batch repeated, in the same order."""
    return change_along_batch(case, batch, lambda x, axis: np.concatenate([x] * times, axis))


def split_batch(case: Case, batch: BatchAxes, members: Sequence[int]) -> list[Case]:
    """Return some members of the batch, each a batch of one."""
    return [
        change_along_batch(case, batch, lambda x, axis, i=i: np.take(x, [i], axis))  # type: ignore[misc]
        for i in members
    ]


def is_batch(case: Case, batch: BatchAxes, times: int = REPETITIONS) -> bool:
    """Return whether the spec of a case, repeated, is made of the spec of its members."""
    whole = run_spec_quietly_or_none(repeat_batch(case, batch, times))
    if whole is None:
        return False
    members = []
    for member in split_batch(case, batch, range(batch.member_count)):
        result = run_spec_quietly_or_none(member)
        if result is None or result.value.ndim <= batch.value_axis:
            return False
        members.append(result)
    if not are_same(whole.value, np.concatenate([r.value for r in members] * times, batch.value_axis)):
        return False
    for i in case.differentiable_inputs:
        name, axis = case.op.argument_name(i), batch.input_axes[i]
        parts: Any = [r.gradients[name] for r in members]
        with np.errstate(all="ignore"):
            expected = times * sum(parts) if axis is None else np.concatenate(parts * times, axis)
        if not are_same(whole.gradients[name], expected):
            return False
    return True
