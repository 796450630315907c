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
from gradspec.properties.case import Case
from gradspec.properties.generating.strategies import ROOM, cases
from gradspec.properties.judging.attempt import Law, judged
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.running.failure import Disagreement, Origin
from gradspec.properties.running.matrix import Tally, sentence
from gradspec.properties.running.options import is_thorough
from gradspec.properties.running.simplify import simplified
from gradspec.reference.op import Op

FILLS = 6  # cases per example: a draw from Hypothesis costs as much as judging several
FILLS_OF_QUICK = 2
LEAST_INFORMATIVE = (
    0.1  # where nine cases of ten could not have failed, too little was said to call it a pass
)
ENOUGH = 100  # cases to say so from: fewer come from a handful of examples, which may all be uninformative by chance


@dataclass(kw_only=True, repr=False)
class Engine:
    """A backend under test as a whole. All verdicts of a property go through `obeys`, so that none is dropped."""

    name: str = "programs"
    backend: Backend
    dtypes: Sequence[str]
    source: str = ""  # the name it was loaded by
    tally: Tally = field(default_factory=Tally)
    failure: Disagreement | None = None
    simpler: Callable[[], Case] | None = None  # the failing case in simpler values, if it may have others
    judged: Callable[[Law, Backend, Any], Judgement] = judged
    _checks: int = field(default=0, init=False)

    def __repr__(self) -> str:
        return f"{self.name}-{self.backend.name}"

    def obeys(self, law: Law, case: Any) -> None:
        """Count what the law says of the case; Disagreement if the backend breaks it, or raises."""
        self._obeys(law, case)

    def _obeys(self, law: Law, case: Any, simplify: Callable[..., Case] | None = None) -> None:
        judgement = self._judged(law, case)
        self.tally.add(judgement)
        if judgement.verdict == "disagree":
            self.failure = self.broken(law, case, judgement)
            self.simpler = partial(simplify, case, partial(self._breaks, law)) if simplify else None
            raise self.failure

    def _breaks(self, law: Law, case: Case) -> bool:
        return self._judged(law, case).verdict == "disagree"

    def _judged(self, law: Law, case: Any) -> Judgement:
        """What the law says, with random numbers of its own.

        Hypothesis seeds the global generators alike for each example: a backend wrong at random would be so in all or none.
        """
        self._checks += 1
        random.seed(self._checks)
        np.random.seed(self._checks)  # noqa: NPY002 - it is the backend that may use it
        return self.judged(law, self.backend, case)

    def broken(self, law: Law, case: Any, judgement: Judgement) -> Disagreement:
        """The failure that this judgement is."""
        tested = Origin(self.backend.name, self.backend.device, self.source or self.backend.name)
        return Disagreement(law, tested, case, judgement)

    def simplest(self) -> Disagreement | None:
        """The last failure, on the simplest case that it could be shown on."""
        if self.failure and self.simpler:
            law, case = self.failure.law, self.simpler()
            judgement = self._judged(law, case)
            if judgement.verdict == "disagree":  # a backend may change its mind
                return self.broken(law, case, judgement)
        return self.failure

    def deviation(self, test: str) -> Deviation | None:
        """What the backend says of itself: that it breaks the property that a test of this name is; None if it does not."""
        for known in self.backend.deviations:
            if known.op == self.name and known.rule in ("", sentence(test)):
                return known
        return None

    def sound(self, test: str) -> list[str]:
        """The dtypes in which the backend does not say that it breaks the property."""
        known = self.deviation(test)
        return [dtype for dtype in self.dtypes if known is None or not known.excuses(dtype)]

    @contextmanager
    def only(self, dtypes: Sequence[str]) -> Iterator[None]:
        """Try no other dtypes than these within the block."""
        before, self.dtypes = self.dtypes, dtypes
        try:
            yield
        finally:
            self.dtypes = before

    def require_information(self) -> None:
        """AssertionError if hardly any of many cases could have failed."""
        judged, informative = self.tally.judged, self.tally.informative
        if judged >= ENOUGH and informative < LEAST_INFORMATIVE * judged:
            raise AssertionError(
                f"only {informative} of {judged} cases were informative (the others had gradients of zero throughout, or "
                "were undecidable): the property has not been tested"
            )


@dataclass(kw_only=True, repr=False)
class Subject(Engine):
    """One op of a backend under test."""

    op: Op

    def obeys(
        self, law: Law, case: Case, *, smooth: bool = False, kept: Callable[[Case], Case] = lambda case: case
    ) -> None:
        """As for every engine; a case that fails is shown in simpler values.

        smooth: these keep away from kinks. kept: what brings a case, drawn or simplified, within the reach of the law.
        """
        self._obeys(law, kept(case), partial(simplified, smooth=smooth, kept=kept))

    def obeys_on_cases(self, law: Law, data: st.DataObject, **how: Any) -> None:
        """Draw cases as `cases` does and see that the backend obeys the law on each."""
        for case in data.draw(self.cases(**how)):
            self.obeys(law, case, smooth=how.get("smooth", False))

    def cases(
        self,
        *,
        smooth: bool = False,
        fills: int = FILLS,
        room: int = ROOM,
        long: bool = False,
        many_axes: bool = False,
    ) -> st.SearchStrategy[list[Case]]:
        """Cases, each of a call of its own, in a dtype the backend has; as `strategies.cases` draws them."""
        return cases(self.op, self.dtypes, few(fills), smooth, room, long, many_axes)


def few(fills: int) -> int:
    """So many cases per example, or the few of the profile `quick`."""
    return fills if is_thorough(settings()) else min(fills, FILLS_OF_QUICK)
