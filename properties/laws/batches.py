"""Is a batch the same as its members one by one?

Does not see: what is wrong in the same way in a batch and in each of its members; a mix-up of equal members
(at most four differ); what goes wrong only in arrays of many more than 1,100 elements, or along another axis
than the first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of, exact_dtype
from gradspec.properties.cases.evaluate import run_on_backend
from gradspec.properties.judging.judge import (
    ALLOWED_FACTOR,
    JITTERED_COPY_COUNTS,
    Judge,
    Judgement,
    combine_judgements,
    ulp,
)
from gradspec.reference.axes import normalize_axes
from gradspec.reference.rule import Array

MIN_BATCH_ELEMENTS = 1100
"""How many elements the largest array of a batch has at least: more than one block of 1,024 threads sees."""

MAX_DISTINCT_MEMBERS = 4
"""How many members of a batch differ; the others repeat them."""

AXIS_OPS = {
    "sum", "mean", "max", "min", "prod", "var", "logsumexp",
    "argmax", "argmin", "softmax", "log_softmax", "flip",
}  # fmt: skip
"""Ops of one array that work along the axes in their keyword `axis`, alike for each place on the others."""

ROW_OPS = {"layer_norm", "linear", "cross_entropy"}
"""Ops that work alike for each row of their first array.

Of their other arrays, only the targets of `cross_entropy` have one element per row.
"""


@dataclass(frozen=True)
class BatchAxes:
    """The batch axis of a case: in the value, and in each input (None for inputs that all members share)."""

    value_axis: int
    input_axes: tuple[int | None, ...]
    member_count: int


def find_batch_axes(case: Case) -> BatchAxes | None:
    """Return the axes along which the case is a batch of smaller ones; None if it is not a batch."""
    name, x = case.op.name, case.inputs[0]
    if case.op.signature:
        return _find_loop_axes(case)
    if name in AXIS_OPS:
        reduced = normalize_axes(case.keywords.get("axis"), x.ndim)
        axis = next((i for i in range(x.ndim) if i not in reduced), None)
        if axis is None:
            return None
        same_rank = case.cotangent.ndim == x.ndim
        return BatchAxes(axis if same_rank else 0, (axis,), x.shape[axis])
    row_rank = case.inputs[1].ndim if name == "layer_norm" else 1
    if name in ROW_OPS and case.cotangent.ndim and x.ndim > row_rank:
        axis_of_others = 0 if name == "cross_entropy" else None
        return BatchAxes(0, (0, *(axis_of_others for _ in case.inputs[1:])), len(x))
    return None


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


def a_batch_equals_its_members(backend: Backend, case: Case) -> Judgement:
    """Judge whether a call on a large batch gives what calls on its members give, one by one.

    The gradient of an argument that all members share must be the sum of theirs. The members are the first
    few of the case, over and over. Both sides are the backend's own answers, so that its choices at kinks do
    not matter.
    """
    batch = find_batch_axes(case)
    if batch is None or not batch.member_count or not case.cotangent.size:
        return Judgement("agree", "the case is no batch", informative=False)
    member_indices = range(min(batch.member_count, MAX_DISTINCT_MEMBERS))
    case = _change_along_batch(case, batch, lambda x, axis: np.take(x, member_indices, axis))
    times = -(-MIN_BATCH_ELEMENTS // max(case.cotangent.size, *(x.size for x in case.inputs)))
    whole = _change_along_batch(case, batch, lambda x, axis: np.concatenate([x] * times, axis))
    members = [
        _change_along_batch(case, batch, lambda x, axis, i=i: np.take(x, [i], axis))  # type: ignore[misc]
        for i in member_indices
    ]
    results = [run_on_backend(backend, member) for member in members]
    got, judge = run_on_backend(backend, whole), Judge(whole)

    def repeat_members(xs: list[Array], axis: int) -> Array:
        return np.concatenate([np.concatenate(xs, axis)] * times, axis)

    value = repeat_members([r.value for r in results], batch.value_axis)
    judgements = [judge.judge("value of the batch", got.value, lambda r: r.value, expected=value)]
    for i in case.differentiable_inputs:
        name, axis = case.op.argument_name(i), batch.input_axes[i]
        member_gradients = [r.gradients[name] for r in results]
        if axis is None:
            judgements.append(_judge_sum(case, name, got.gradients[name], member_gradients, times))
        else:
            what, part = f"gradient of {name} in the batch", lambda r, name=name: r.gradients[name]
            expected = repeat_members(member_gradients, axis)
            judgements.append(judge.judge(what, got.gradients[name], part, expected=expected))
    return combine_judgements(judgements)


def _judge_sum(case: Case, name: str, got: Array, member_gradients: list[Array], times: int) -> Judgement:
    """Judge whether the gradient of an argument that all members share is the sum of their gradients.

    The sum of n numbers, in any order, is off by at most n units in the last place of the sum of their sizes;
    and every member may be off by the noise of the case.
    """
    terms, dtype = np.stack(member_gradients).astype(exact_dtype(case.dtype)), dtype_of(case.dtype)
    exact, size = times * terms.sum(0), times * np.abs(terms).sum(0)
    if got.shape != exact.shape:
        return Judgement("disagree", f"the gradient of {name} has shape {got.shape}, expected {exact.shape}")
    with np.errstate(all="ignore"):
        noise = Judge(case).measure_noise(lambda r: r.gradients[name], JITTERED_COPY_COUNTS[1])
        eps = float(ml_dtypes.finfo(dtype).eps)
        allowed = ALLOWED_FACTOR * times * noise + len(terms) * times * eps * size + ulp(exact, dtype)
        error, decidable = np.abs(got.astype(exact.dtype) - exact), np.isfinite(exact) & np.isfinite(allowed)
        if wrong := np.argwhere(decidable & ~(error <= allowed)).tolist():
            at = tuple(wrong[0])
            return Judgement(
                "disagree",
                f"the gradient of {name} at {at} is {float(got[at])}, the sum over the members of the batch "
                f"is {float(exact[at])}, allowed to be off by {float(allowed[at]):.3g}",
            )
        return Judgement("agree", informative=bool(np.any(decidable & (allowed < np.abs(exact)))))


def _change_along_batch(case: Case, batch: BatchAxes, change: Callable[[Array, int], Array]) -> Case:
    """Return the case with every array that has a batch axis, and the cotangent, changed along that axis."""
    inputs = tuple(
        x if axis is None else change(x, axis) for x, axis in zip(case.inputs, batch.input_axes, strict=True)
    )
    return replace(case, inputs=inputs, cotangent=change(case.cotangent, batch.value_axis))
