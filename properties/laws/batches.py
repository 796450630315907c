"""Is a batch the same as its members one by one?"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of, exact_dtype
from gradspec.properties.cases.evaluate import run_on_backend
from gradspec.properties.judging.judge import (
    FACTOR,
    JITTERED_COPIES,
    Judge,
    Judgement,
    combine_judgements,
    ulp,
)
from gradspec.reference.axes import normalize_axes
from gradspec.reference.rule import Array

BATCH_ELEMENTS = 1100  # elements of a batch: more than kernels of one block of 1,024 threads see at once
MAX_DISTINCT_MEMBERS = 4  # members that differ

AXIS_OPS = {"sum", "mean", "max", "min", "prod", "var", "logsumexp", "argmax", "argmin", "softmax", "log_softmax", "flip"}  # fmt: skip
"""Ops of one array that work along the axes in their keyword `axis`, and alike for each place on the others."""

ROW_OPS = {"layer_norm", "linear", "cross_entropy"}
"""Ops that work alike for each row of their first array; of the others, `cross_entropy` alone has one to each row."""


@dataclass(frozen=True)
class BatchAxes:
    """Where a case has its batch: an axis of the value, and an axis of each array, None for those all members share."""

    value_axis: int
    input_axes: tuple[int | None, ...]
    member_count: int


def find_batch_axes(case: Case) -> BatchAxes | None:
    """Along which axes the case is a batch of smaller ones; None if it is not."""
    name, x = case.op.name, case.inputs[0]
    if case.op.signature:
        return _find_loop_axes(case)
    if name in AXIS_OPS:
        reduced = normalize_axes(case.keywords.get("axis"), x.ndim)
        kept = [i for i in range(x.ndim) if i not in reduced]
        same_rank = case.cotangent.ndim == x.ndim
        return BatchAxes(kept[0] if same_rank else 0, (kept[0],), x.shape[kept[0]]) if kept else None
    if (
        name in ROW_OPS
        and case.cotangent.ndim
        and x.ndim > (case.inputs[1].ndim if name == "layer_norm" else 1)
    ):
        each = 0 if name == "cross_entropy" else None
        return BatchAxes(0, (0, *(each for _ in case.inputs[1:])), len(x))
    return None


def _find_loop_axes(case: Case) -> BatchAxes | None:
    """The first loop dimension of an op with a gufunc signature, whose arrays may have fewer core dimensions than declared."""
    own = [
        x.shape[: x.ndim - min(x.ndim, core)]
        for x, core in zip(case.inputs, case.op.core_ranks, strict=False)  # clip does without a bound
    ]
    whole = np.broadcast_shapes(*own)
    axes = tuple(0 if loop and len(loop) == len(whole) and loop[0] == whole[0] else None for loop in own)
    return BatchAxes(0, axes, whole[0]) if whole else None


def a_batch_equals_its_members(backend: Backend, case: Case) -> Judgement:
    """One call on a large batch gives what calls on each of its members give; where they share an argument, the sum.

    The members are the first few of the case, over and over. Both sides are the backend's own answers, so that it is held to
    its own choices at kinks.
    """
    batch = find_batch_axes(case)
    if batch is None or not batch.member_count or not case.cotangent.size:
        return Judgement("agree", "the case is no batch", informative=False)
    few = range(min(batch.member_count, MAX_DISTINCT_MEMBERS))
    case = _change_along_batch(case, batch, lambda x, axis: np.take(x, few, axis))
    times = -(-BATCH_ELEMENTS // max(case.cotangent.size, *(x.size for x in case.inputs)))
    whole = _change_along_batch(case, batch, lambda x, axis: np.concatenate([x] * times, axis))
    single = [
        _change_along_batch(case, batch, lambda x, axis, i=i: np.take(x, [i], axis))  # type: ignore[misc]
        for i in few
    ]
    parts = [run_on_backend(backend, s) for s in single]
    got, judge = run_on_backend(backend, whole), Judge(whole)

    def repeat_members(xs: list[Array], axis: int) -> Array:
        return np.concatenate([np.concatenate(xs, axis)] * times, axis)

    value = repeat_members([r.value for r in parts], batch.value_axis)
    judgements = [judge.judge("value of the batch", got.value, lambda r: r.value, expected=value)]
    for i in case.differentiable_inputs:
        name, axis = case.op.argument_name(i), batch.input_axes[i]
        each = [r.gradients[name] for r in parts]
        if axis is None:
            judgements.append(_judge_sum(case, name, got.gradients[name], each, times))
        else:
            what, part = f"gradient of {name} in the batch", lambda r, name=name: r.gradients[name]
            expected = repeat_members(each, axis)
            judgements.append(judge.judge(what, got.gradients[name], part, expected=expected))
    return combine_judgements(judgements)


def _judge_sum(case: Case, name: str, got: Array, member_gradients: list[Array], times: int) -> Judgement:
    """Whether the gradient of an argument that all share is the sum of what each member has for it.

    Added up in any order, n numbers are off by at most n units in the last place of the sum of their sizes; and every
    member may be off by the noise of the case.
    """
    terms, dtype = np.stack(member_gradients).astype(exact_dtype(case.dtype)), dtype_of(case.dtype)
    exact, size = times * terms.sum(0), times * np.abs(terms).sum(0)
    if got.shape != exact.shape:
        return Judgement("disagree", f"the gradient of {name} has shape {got.shape}, expected {exact.shape}")
    with np.errstate(all="ignore"):
        noise = Judge(case).measure_noise(lambda r: r.gradients[name], JITTERED_COPIES[1])
        eps = float(ml_dtypes.finfo(dtype).eps)
        allowed = FACTOR * times * noise + len(terms) * times * eps * size + ulp(exact, dtype)
        error, decidable = np.abs(got.astype(exact.dtype) - exact), np.isfinite(exact) & np.isfinite(allowed)
        if wrong := np.argwhere(decidable & ~(error <= allowed)).tolist():
            at = tuple(wrong[0])
            return Judgement(
                "disagree",
                f"the gradient of {name} at {at} is {float(got[at])}, the sum over the members of the batch is "
                f"{float(exact[at])}, allowed to be off by {float(allowed[at]):.3g}",
            )
        return Judgement("agree", informative=bool(np.any(decidable & (allowed < np.abs(exact)))))


def _change_along_batch(case: Case, batch: BatchAxes, change: Callable[[Array, int], Array]) -> Case:
    """The case with every array that has a batch axis, and the cotangent, changed along it."""
    inputs = tuple(
        x if axis is None else change(x, axis) for x, axis in zip(case.inputs, batch.input_axes, strict=True)
    )
    return replace(case, inputs=inputs, cotangent=change(case.cotangent, batch.value_axis))
