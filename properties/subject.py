"""What a property is tried on: a backend, one op of it or programs made of its ops, and the tally of what was judged.

A law says what a property asks of one case: a function of a backend and a case that returns a judgement. The property
finds cases for it; the script that reproduces a failure calls it directly.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gradspec.backends import Backend
from gradspec.properties.case import Case
from gradspec.properties.failure import Disagreement, Law
from gradspec.properties.judge import Judgement
from gradspec.properties.matrix import Tally
from gradspec.properties.strategies import ROOM, cases
from gradspec.reference.op import Op

FILLS = 6  # cases per example: a draw from Hypothesis costs as much as judging several
LEAST_INFORMATIVE = (
    0.1  # a run in which nine cases of ten could not have failed says too little to be called a pass
)


@dataclass(kw_only=True, repr=False)
class Engine:
    """A backend under test as a whole. All verdicts of a property go through `obeys`, so that none is dropped."""

    name: str = "programs"
    backend: Backend
    dtypes: Sequence[str]
    source: str = ""  # the name it was loaded by
    tally: Tally = field(default_factory=Tally)
    failure: Disagreement | None = None

    def __repr__(self) -> str:
        return f"{self.name}-{self.backend.name}"

    def obeys(self, law: Law, case: Any) -> None:
        """Count what the law says of the case; Disagreement if the backend breaks it, or raises."""
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore", RuntimeWarning)  # overflow and 0/0 are for the law to judge
                judgement = law(self.backend, case)
        except Exception as error:
            raise self._broken(
                law, case, Judgement("disagree", f"{type(error).__name__}: {error}")
            ) from error
        self.tally.add(judgement)
        if judgement.verdict == "disagree":
            raise self._broken(law, case, judgement)

    def _broken(self, law: Law, case: Any, judgement: Judgement) -> Disagreement:
        self.failure = Disagreement(law, self.backend, self.source or self.backend.name, case, judgement)
        return self.failure

    def require_information(self) -> None:
        """AssertionError if hardly any case could have failed."""
        if self.tally.informative < LEAST_INFORMATIVE * self.tally.judged:
            raise AssertionError(
                f"only {self.tally.informative} of {self.tally.judged} cases were informative (the others had gradients "
                "of zero throughout, or were undecidable): the property has not been tested"
            )


@dataclass(kw_only=True, repr=False)
class Subject(Engine):
    """One op of a backend under test."""

    op: Op

    def obeys_on_cases(self, law: Law, data: st.DataObject, **how: Any) -> None:
        """Draw cases as `cases` does and see that the backend obeys the law on each."""
        for case in data.draw(self.cases(**how)):
            self.obeys(law, case)

    def cases(
        self, *, smooth: bool = False, fills: int = FILLS, room: int = ROOM
    ) -> st.SearchStrategy[list[Case]]:
        """Cases of one call, in a dtype the backend has; `smooth` keeps the inputs away from kinks."""
        return cases(self.op, self.dtypes, fills, smooth, room)
