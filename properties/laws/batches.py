"""Is a batch the same as its members one by one?

Does not see: what is wrong in the same way in a batch and in each of its members; a mix-up of equal members
(at most four differ); what goes wrong only in arrays of many more than 1,100 elements or members, or with
more than 1,024 members of more than 16 elements each, or in 16 bits; of several axes of batches,
all but one for each call.
"""

from collections.abc import Callable
from dataclasses import replace

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of, exact_dtype
from gradspec.properties.cases.evaluate import Result, run_on_backend
from gradspec.properties.cases.observed.batches import (
    BatchAxes,
    change_along_batch,
    find_batch_axes,
    is_batch,
    repeat_batch,
    split_batch,
)
from gradspec.properties.judging.judge import (
    ALLOWED_FACTOR,
    JITTERED_COPY_COUNTS,
    Judge,
    Judgement,
    combine_judgements,
    ulp,
)
from gradspec.properties.judging.judgement import Severity, WrongElement
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"

MIN_BATCH_ELEMENTS = 1100
"""How many elements the largest array of a batch has at least: more than one block of 1,024 threads sees."""

MIN_BATCH_MEMBERS = 1100
"""How many members a batch has at least if they share an argument: its gradient is a sum over all of them."""

MAX_BATCH_ELEMENTS = 16 * MIN_BATCH_MEMBERS
"""How many elements an array of a batch may have for the sake of so many members."""

MAX_DISTINCT_MEMBERS = 4
"""How many members of a batch differ; the others repeat them."""


def a_batch_equals_its_members(backend: Backend, case: Case) -> Judgement:
    """Judge whether a call on a large batch gives what calls on its members give, one by one.

    The gradient of an argument that all members share must be the sum of theirs. The members are the first
    few of the case, over and over. Both sides are the backend's own answers, so that its choices at kinks do
    not matter. That the case is a batch was observed on other numbers: before a backend is called wrong, the
    spec must be right about these.
    """
    found = _find_members(case)
    if found is None:
        return Judgement("agree", "the case is no batch", informative=False)
    case, batch, times = found
    members = split_batch(case, batch, range(batch.member_count))
    results = [run_on_backend(backend, member) for member in members]
    try:
        got = run_on_backend(backend, repeat_batch(case, batch, times))
        judgement = _judge_results(case, batch, results, got, times)
    except Exception:
        if _is_batch_by_spec(case, batch, times):
            raise
        return NO_BATCH_OF_THIS_SIZE
    is_wrong = judgement.verdict == "disagree" and _is_batch_by_spec(case, batch, times)
    return judgement if is_wrong or judgement.verdict != "disagree" else NO_BATCH_OF_THIS_SIZE


def find_shown_case(case: Case) -> Case:
    """Return the batch that is made of a case, which is what a violation shows: it has the members in it."""
    found = _find_members(case)
    return case if found is None else repeat_batch(*found)


def _find_members(case: Case) -> tuple[Case, BatchAxes, int] | None:
    """Return the members that differ as a batch, its axes, and how often it is repeated; None if none."""
    batch = find_batch_axes(case)
    if batch is None or not batch.member_count or not case.cotangent.size:
        return None
    indices = range(min(batch.member_count, MAX_DISTINCT_MEMBERS))
    case = change_along_batch(case, batch, lambda x, axis: np.take(x, indices, axis))
    batch = replace(batch, member_count=len(indices))
    return case, batch, _count_repetitions(case, batch)


NO_BATCH_OF_THIS_SIZE = Judgement("agree", "the case is no batch of this size", informative=False)


def _is_batch_by_spec(case: Case, batch: BatchAxes, times: int) -> bool:
    """Return whether the spec, in higher precision, gives for a batch what it gives for the members."""
    return is_batch(case.map_float_arrays(lambda x: x.astype(exact_dtype(case.dtype))), batch, times)


def _count_repetitions(case: Case, batch: BatchAxes) -> int:
    """Return how often the members of a batch are repeated to make it large.

    In 16 bits a sum of so many members would tell nothing: it may be off by as many units.
    """
    times: int = -(-MIN_BATCH_ELEMENTS // max(case.cotangent.size, *(x.size for x in case.inputs)))
    shares = any(batch.input_axes[i] is None for i in case.differentiable_inputs)
    if not shares or dtype_of(case.dtype).itemsize == 2:
        return times
    split = [x.size for x, axis in zip(case.inputs, batch.input_axes, strict=True) if axis is not None]
    most: int = MAX_BATCH_ELEMENTS // max(case.cotangent.size, *split)
    return max(times, min(most, -(-MIN_BATCH_MEMBERS // batch.member_count)))


def _judge_results(case: Case, batch: BatchAxes, members: list[Result], got: Result, times: int) -> Judgement:
    """Judge what a backend gave for a batch by what it gave for its members."""
    judge = Judge(case)

    def judge_repetitions(what: str, whole: Array, part: Callable[[Result], Array], axis: int) -> Judgement:
        expected = np.concatenate([part(r) for r in members], axis)
        return _judge_repetitions(judge, f"{what} of the batch", whole, part, expected, axis, times)

    judgements = [judge_repetitions("value", got.value, lambda r: r.value, batch.value_axis)]
    for i in case.differentiable_inputs:
        name, axis = case.op.argument_name(i), batch.input_axes[i]
        part: Callable[[Result], Array] = lambda r, name=name: r.gradients[name]  # type: ignore[misc]
        if axis is None:
            sums = [part(r) for r in members]
            judgements.append(_judge_sum(case, judge, name, got.gradients[name], sums, times))
        else:
            judgements.append(judge_repetitions(f"gradient of {name}", got.gradients[name], part, axis))
    return combine_judgements(judgements)


def _judge_repetitions(
    judge: Judge,
    what: str,
    whole: Array,
    part: Callable[[Result], Array],
    expected: Array,
    axis: int,
    times: int,
) -> Judgement:
    """Judge whether an array of the batch is that of the members, repeated.

    Most repetitions are the same to the last bit. Those that differ from the first are judged with it, and
    the noise of each is that of the members.

    Args:
        judge: The judge of the members, as one case.
        what: What the array is called.
        whole: The array.
        part: What to take of a result.
        expected: The array that the members give, side by side along the axis.
        axis: The axis.
        times: How often it is repeated.
    """
    shape = tuple(n * times if i == axis else n for i, n in enumerate(expected.shape))
    if whole.shape != shape:
        return Judgement("disagree", f"the {what} has shape {whole.shape}, expected {shape}")
    split = whole.reshape(*shape[:axis], times, *expected.shape[axis:])
    others = tuple(i for i in range(split.ndim) if i != axis)
    first = np.take(split, [0], axis)
    differs = np.any((split != first) & ~((split != split) & (first != first)), axis=others)
    differs[:1] = True
    seen = np.flatnonzero(differs)

    def repeat(x: Array) -> Array:
        return np.concatenate([x] * len(seen), axis)

    got = np.take(split, seen, axis).reshape(repeat(expected).shape)
    judgement = judge.judge(what, got, lambda r: repeat(part(r)), expected=repeat(expected))
    if judgement.verdict != "disagree" or judgement.wrong is None:
        return judgement
    wrong = judgement.wrong
    repetition, within = divmod(wrong.at[axis], expected.shape[axis])
    place = int(seen[repetition]) * expected.shape[axis] + within
    in_batch = replace(wrong, at=(*wrong.at[:axis], place, *wrong.at[axis + 1 :]))
    reason = judgement.reason.replace(f" at {wrong.at} ", f" at {in_batch.at} ", 1)
    return replace(
        judgement, reason=f"{reason}; expected is what its members give one by one", wrong=in_batch
    )


def _judge_sum(
    case: Case, judge: Judge, name: str, got: Array, member_gradients: list[Array], times: int
) -> Judgement:
    """Judge whether the gradient of an argument that all members share is the sum of their gradients.

    The sum of n numbers, in any order, is off by at most n units in the last place of the sum of their sizes;
    and every member may be off by the noise of the case. There are not just as many numbers as members: what
    is a sum within each member may be added up with all the others, one by one, as rows of further axes are.
    """
    terms, dtype = np.stack(member_gradients).astype(exact_dtype(case.dtype)), dtype_of(case.dtype)
    exact, size = times * terms.sum(0), times * np.abs(terms).sum(0)
    if got.shape != exact.shape:
        return Judgement("disagree", f"the gradient of {name} has shape {got.shape}, expected {exact.shape}")
    with np.errstate(all="ignore"):
        eps = float(ml_dtypes.finfo(dtype).eps)
        most = times * max(case.cotangent.size, *(x.size for x in case.inputs))
        allowed, error = most * eps * size + ulp(exact, dtype), np.abs(got.astype(exact.dtype) - exact)
        if not np.all(error <= allowed):  # else the noise, which costs most, decides nothing
            noise = judge.measure_noise_of_any_formula(lambda r: r.gradients[name], JITTERED_COPY_COUNTS[1])
            allowed = allowed + ALLOWED_FACTOR * times * noise
        decidable = np.isfinite(exact) & np.isfinite(allowed)
        if wrong := np.argwhere(decidable & ~(error <= allowed)).tolist():
            at = tuple(wrong[0])
            what = f"gradient of {name} of the batch"
            return Judgement(
                "disagree",
                f"the {what}{f' at {at}' if at else ''} is {float(got[at]):.9g}, the sum of those of its "
                f"members is {float(exact[at]):.9g} ({float(allowed[at]):.3g} more or less is allowed)",
                wrong=WrongElement(what, at, float(got[at]), float(exact[at])),
            )
        return Judgement("agree", informative=bool(np.any(decidable & (allowed < np.abs(exact)))))
