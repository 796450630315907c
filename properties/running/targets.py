"""What a property is tried on: a backend, one op of it or programs made of its ops, and the tally of what was judged.

A law says what a property asks of one case: a function of a backend and a case that returns a judgement. The property
finds cases for it; the script that reproduces a failure calls it directly.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from gradspec.backends import Backend
from gradspec.backends.backend import Deviation
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.sizes import MAX_ELEMENTS
from gradspec.properties.drawing.strategies import cases
from gradspec.properties.judging.attempt import Law, judge_case
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.running.failure import FailingBackend, LawViolation
from gradspec.properties.running.matrix import Tally, to_sentence
from gradspec.properties.running.options import is_thorough
from gradspec.properties.running.simplify import simplify_case
from gradspec.reference.op import Op

CASES_PER_EXAMPLE = 6  # cases per example: a draw from Hypothesis costs as much as judging several
CASES_PER_EXAMPLE_QUICK = 2
MIN_INFORMATIVE_SHARE = (
    0.1  # where nine cases of ten could not have failed, too little was said to call it a pass
)
MIN_CASES = 100  # cases to say so from: fewer come from a handful of examples, which may all be uninformative by chance


@dataclass(kw_only=True, repr=False)
class BackendUnderTest:
    """A backend under test as a whole. All verdicts of a property go through `obeys`, so that none is dropped."""

    name: str = "programs"
    backend: Backend
    dtypes: Sequence[str]
    source: str = ""  # the name it was loaded by
    tally: Tally = field(default_factory=Tally)
    failure: LawViolation | None = None
    find_simpler_case: Callable[[], Case] | None = (
        None  # the failing case in simpler values, if it may have others
    )
    judge_case: Callable[[Law, Backend, Any], Judgement] = judge_case
    _check_count: int = field(default=0, init=False)

    def __repr__(self) -> str:
        return f"{self.name}-{self.backend.name}"

    def check_law(self, law: Law, case: Any) -> None:
        """Count what the law says of the case; Disagreement if the backend breaks it, or raises."""
        self._check_law(law, case)

    def _check_law(self, law: Law, case: Any, simplify: Callable[..., Case] | None = None) -> None:
        judgement = self._judge_with_new_seed(law, case)
        self.tally.add(judgement)
        if judgement.verdict == "disagree":
            self.failure = self.make_violation(law, case, judgement)
            self.find_simpler_case = (
                partial(simplify, case, partial(self._breaks_law, law)) if simplify else None
            )
            raise self.failure

    def _breaks_law(self, law: Law, case: Case) -> bool:
        return self._judge_with_new_seed(law, case).verdict == "disagree"

    def _judge_with_new_seed(self, law: Law, case: Any) -> Judgement:
        """What the law says, with random numbers of its own.

        Hypothesis seeds the global generators alike for each example: a backend wrong at random would be so in all or none.
        """
        self._check_count += 1
        random.seed(self._check_count)
        np.random.seed(self._check_count)  # noqa: NPY002 - it is the backend that may use it
        return self.judge_case(law, self.backend, case)

    def make_violation(self, law: Law, case: Any, judgement: Judgement) -> LawViolation:
        """The failure that this judgement is."""
        tested = FailingBackend(self.backend.name, self.backend.device, self.source or self.backend.name)
        return LawViolation(law, tested, case, judgement)

    def simplify_failure(self) -> LawViolation | None:
        """The last failure, on the simplest case that it could be shown on."""
        if self.failure and self.find_simpler_case:
            law, case = self.failure.law, self.find_simpler_case()
            judgement = self._judge_with_new_seed(law, case)
            if judgement.verdict == "disagree":  # a backend may change its mind
                return self.make_violation(law, case, judgement)
        return self.failure

    def find_deviation(self, test: str) -> Deviation | None:
        """What the backend says of itself: that it breaks the property that a test of this name is; None if it does not."""
        for known in self.backend.deviations:
            if known.op == self.name and known.law in ("", to_sentence(test)):
                return known
        return None

    def list_sound_dtypes(self, test: str) -> list[str]:
        """The dtypes in which the backend does not say that it breaks the property."""
        known = self.find_deviation(test)
        return [dtype for dtype in self.dtypes if known is None or not known.excuses(dtype)]

    @contextmanager
    def restrict_dtypes(self, dtypes: Sequence[str]) -> Iterator[None]:
        """Try no other dtypes than these within the block."""
        before, self.dtypes = self.dtypes, dtypes
        try:
            yield
        finally:
            self.dtypes = before

    def require_informative_cases(self) -> None:
        """AssertionError if hardly any of many cases could have failed."""
        judged, informative = self.tally.judged, self.tally.informative
        if judged >= MIN_CASES and informative < MIN_INFORMATIVE_SHARE * judged:
            raise AssertionError(
                f"only {informative} of {judged} cases were informative (the others had gradients of zero throughout, or "
                "were undecidable): the property has not been tested"
            )


@dataclass(kw_only=True, repr=False)
class OpUnderTest(BackendUnderTest):
    """One op of a backend under test."""

    op: Op

    def check_law(
        self, law: Law, case: Case, *, smooth: bool = False, adapt: Callable[[Case], Case] = lambda case: case
    ) -> None:
        """As for every engine; a case that fails is shown in simpler values.

        smooth: these keep away from kinks. kept: what brings a case, drawn or simplified, within the reach of the law.
        """
        self._check_law(law, adapt(case), partial(simplify_case, smooth=smooth, adapt=adapt))

    def check_law_on_cases(self, law: Law, data: st.DataObject, **how: Any) -> None:
        """Draw cases as `cases` does and see that the backend obeys the law on each."""
        for case in data.draw(self.cases(**how)):
            self.check_law(law, case, smooth=how.get("smooth", False))

    def cases(
        self,
        *,
        smooth: bool = False,
        cases_per_example: int = CASES_PER_EXAMPLE,
        max_elements: int = MAX_ELEMENTS,
        allow_long_axes: bool = False,
        prefer_many_axes: bool = False,
    ) -> st.SearchStrategy[list[Case]]:
        """Cases, each of a call of its own, in a dtype the backend has; as `strategies.cases` draws them."""
        return cases(
            self.op,
            self.dtypes,
            limit_cases_to_profile(cases_per_example),
            smooth,
            max_elements,
            allow_long_axes,
            prefer_many_axes,
        )


def limit_cases_to_profile(cases_per_example: int) -> int:
    """So many cases per example, or the few of the profile `quick`."""
    return cases_per_example if is_thorough(settings()) else min(cases_per_example, CASES_PER_EXAMPLE_QUICK)
