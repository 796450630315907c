"""The search for a case that convinces: as small as can be, and beyond doubt.

Hypothesis shrinks the call and the values of the first case of an example; the values of the other cases come
from a seed, and rare cases are not drawn at all: both stay as they are. So the case that Hypothesis ends with
is simplified once more, greedily, by the steps of `cuts` and `simpler_cases`, for as long as it still fails,
and fails in the same way. Large arrays are made constant first: then they can be written down. Of two cases
the one is better that leaves less to doubt: a wrong number where the right one is finite and not zero, from
finite numbers and a cotangent that is not zero, rather than a convention on 0 times infinity. Among equals it
is the one with less to read.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.running.cuts import find_cotangent_of, iterate_cuts
from gradspec.properties.running.simpler_cases import (
    count_characters_to_read,
    is_legal,
    iterate_constant_arrays,
    iterate_plain_layouts,
    iterate_simple_cotangents,
    iterate_simpler_blocks,
    iterate_telling_numbers,
)

MAX_SIMPLIFY_TRIES = 300
SIMPLIFY_SECONDS = 3.0

JudgeCase = Callable[[Case], Judgement]
Rating = tuple[int, int, int, int]


def simplify_case(
    case: Case,
    judge: JudgeCase,
    *,
    smooth: bool,
    adapt: Callable[[Case], Case] = lambda case: case,
    seconds: float = SIMPLIFY_SECONDS,
) -> Case:
    """Return a more convincing case that fails in the same way, found within a bounded number of tries.

    Args:
        case: The case to simplify.
        judge: Judges a case by the law that it breaks.
        smooth: Keep away from kinks, as a law needs that holds only away from them.
        adapt: Changes a case so that the law applies to it.
        seconds: How long the search may take.
    """
    first = judge(case)
    if first.verdict not in ("disagree", "lossy"):  # it failed by chance
        return case
    search = _Search(case, first, judge, smooth, adapt, seconds)
    while sum(search.descend(stage) for stage in search.stages):
        pass
    return search.case


class _Search:
    """A greedy search: the best case so far, and what may still be spent on a better one."""

    def __init__(
        self,
        case: Case,
        judgement: Judgement,
        judge: JudgeCase,
        smooth: bool,
        adapt: Callable[[Case], Case],
        seconds: float,
    ) -> None:
        self.original, self.case, self.judgement = case, case, judgement
        self.judge, self.smooth, self.adapt = judge, smooth, adapt
        self.tries, self.end = MAX_SIMPLIFY_TRIES, time.monotonic() + seconds
        self.seen: set[tuple[object, ...]] = set()
        self.stages = (
            lambda: iterate_constant_arrays(self.case),
            self._cut,
            lambda: iterate_plain_layouts(self.case),
            lambda: iterate_simple_cotangents(self.case, self.judgement.wrong),
            self._tell,
            lambda: iterate_simpler_blocks(self.case),
        )

    def _cut(self) -> Iterator[Case]:
        return iterate_cuts(self.case, self.judgement.wrong)

    def _tell(self) -> Iterator[Case]:
        """Numbers of another size, which may tell more: tried only while something is in doubt."""
        doubtful = rate_case(self.case, self.judgement)[0] > 0
        return (
            iterate_telling_numbers(self.case, self.original, self.judgement.wrong) if doubtful else iter(())
        )

    def descend(self, stage: Callable[[], Iterator[Case]]) -> bool:
        """Take the first better case of a stage for as long as there is one; return whether there was any."""
        improved = False
        while any(map(self._take_if_better, itertools.takewhile(self._may_go_on, stage()))):
            improved = True
        return improved

    def _may_go_on(self, _: Case) -> bool:
        return self.tries > 0 and time.monotonic() < self.end

    def _take_if_better(self, candidate: Case) -> bool:
        """Judge a candidate and, if it is better and fails in the same way, go on with it."""
        candidate = self.adapt(candidate)
        now = rate_case(self.case, self.judgement)
        hoped = rate_case(candidate, replace(self.judgement, wrong=None))
        key = identify(candidate)
        if key in self.seen or not (hoped < now) or not is_legal(candidate, self.case, self.smooth):
            return False
        self.seen.add(key)
        self.tries -= 1
        judgement = self.judge(candidate)
        if not fails_alike(judgement, self.judgement) or rate_case(candidate, judgement) >= now:
            return False
        self.case, self.judgement = candidate, judgement
        return True


def fails_alike(now: Judgement, before: Judgement) -> bool:
    """Return whether a simpler case shows what the one before it does, or something plainer.

    A wrong number stays one, an exception is raised at the same place, and NaN may only become a number.
    """
    if now.verdict != before.verdict or type(now) is not type(before):
        return False
    if now.raised or before.raised:
        return _find_origin(now) == _find_origin(before)
    if (now.wrong is None) != (before.wrong is None):  # a wrong shape, say
        return False
    return now.wrong is None or before.wrong is None or _is_number(now) or not _is_number(before)


def _find_origin(judgement: Judgement) -> tuple[str, str]:
    """Return the type of an exception and the innermost line of the backend."""
    first, *frames = judgement.reason.split("\n")
    return first.split(":")[0], next((line for line in reversed(frames) if line.startswith("  at ")), "")


def _is_number(judgement: Judgement) -> bool:
    return judgement.wrong is not None and math.isfinite(judgement.wrong.got)


def rate_case(case: Case, judgement: Judgement) -> Rating:
    """Return how much a failing case leaves to doubt, then how much there is to read: less is better.

    In doubt are: infinities and NaN that go in, a cotangent of zero, a result that should be 0 or infinite,
    and one that is not a number.

    Returns:
        The doubts, the elements, the layouts and axes, and the characters of the values.
    """
    arrays, wrong = (*case.inputs, case.cotangent), judgement.wrong
    doubts = int(not all(np.all(np.isfinite(x.astype(np.float64))) for x in arrays))
    doubts += int(not np.any(find_cotangent_of(case, wrong)))
    if wrong is not None:
        doubts += int(wrong.expected == 0 or not math.isfinite(wrong.expected))
        doubts += int(not math.isfinite(wrong.got))
    layouts = sum(layout != "C" for layout in case.layouts) + sum(x.ndim for x in arrays)
    return doubts, sum(x.size for x in arrays), layouts, count_characters_to_read(case)


def identify(case: Case) -> tuple[object, ...]:
    """Return what two candidates have in common only if they are the same."""
    return case.layouts, *((x.shape, x.tobytes()) for x in (*case.inputs, case.cotangent))
