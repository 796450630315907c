"""The targets that a property is tried on: a backend as a whole, or one op of it.

A law is the question that a property asks of one case: a function of a backend and a case that returns a
judgement. The property draws cases for it; the script that reproduces a failure calls it directly.

A target counts what the law says of each case and keeps the last failure. `BackendUnderTest` does all of that
for any target; `OpUnderTest` inherits it and adds the op, its cases, and simpler values for a case that
fails. So every op under test is a backend under test, restricted to one op.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from gradspec.backends import Backend
from gradspec.backends.backend import Deviation
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.programs import Program
from gradspec.properties.cases.sizes import MAX_ELEMENTS
from gradspec.properties.drawing.strategies import cases
from gradspec.properties.judging.attempt import Law, judge_case
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.judging.judgement import Severity
from gradspec.properties.judging.noise_stages import measure_noise_fully
from gradspec.properties.judging.severity import SEVERITIES, classify_severity, explains
from gradspec.properties.running.explanations import explain
from gradspec.properties.running.failure import BackendLabel, LawViolation
from gradspec.properties.running.profiles import is_thorough
from gradspec.properties.running.search import FindSimplerCase, Search
from gradspec.properties.running.simplify import simplify_case
from gradspec.properties.running.simplify_programs import simplify_program
from gradspec.properties.running.tally import Tally, to_sentence
from gradspec.reference.op import Op

DISAGREEMENTS = frozenset(SEVERITIES) - {"lossy"}
"""The severities that fail where no command line says otherwise, as for whoever calls a law directly."""

CASES_PER_EXAMPLE = 12
"""An example has several cases, since a draw from Hypothesis costs as much as judging several."""

CASES_PER_EXAMPLE_QUICK = 2

MIN_INFORMATIVE_SHARE = 0.1
"""If fewer of the cases could have failed, a property counts as untested, not as passed."""

MIN_CASES = 100
"""With fewer cases it passes: they come from a handful of examples, which may be uninformative by chance."""


N_NEAREST_CASES = 1
"""So many cases of a property, those that came nearest to what is allowed, are judged by all of the noise."""


@dataclass(kw_only=True, repr=False)
class BackendUnderTest:
    """A backend as a whole, tried with programs of its ops; also the base class of `OpUnderTest`.

    All judgements of a property go through `check_law`, so that none is dropped.

    Attributes:
        name: What reports call it: "programs" for a backend as a whole, else the name of the op.
        backend: The backend.
        dtypes: The dtypes it is tried in.
        source: The name it was loaded by.
        tally: The count of its judgements.
        failure: Its last failure.
        find_simpler_case: Finds simpler values for the case that failed, where there can be any.
        judge_case: Applies a law to a case.
        failing_severities: Those that make a property fail.
        listed: Of each severity that does not fail, the violation to show: of the lossy ones the one that
            loses most, else the shortest.
        search: Which violations are raised, while some are searched for; None to raise all that fail.
        announce: Called with each violation that is to be reported, as it is found, and again once it is
            simplified.
    """

    name: str = "programs"
    backend: Backend
    dtypes: Sequence[str]
    source: str = ""
    tally: Tally = field(default_factory=Tally)
    failure: LawViolation | None = None
    find_simpler_case: FindSimplerCase = None
    judge_case: Callable[[Law, Backend, Any], Judgement] = judge_case
    failing_severities: frozenset[str] = DISAGREEMENTS
    listed: dict[str, LawViolation] = field(default_factory=dict)
    search: Search | None = None
    announce: Callable[[LawViolation], None] = lambda _: None
    _check_count: int = field(default=0, init=False)
    _nearest_cases: list[tuple[float, Law, Any]] = field(default_factory=list, init=False)

    def __repr__(self) -> str:
        return f"{self.name}-{self.backend.name}"

    def check_law(self, law: Law, case: Any) -> None:
        """Judge the case by the law and count the judgement.

        Raises:
            LawViolation: The backend breaks the law, or raises an exception.
        """
        self._check_law(law, case)

    def check_law_on_program(self, law: Law, program: Program) -> None:
        """Judge the program by the law and count the judgement; report a failing program in fewer steps.

        Raises:
            LawViolation: The backend breaks the law, or raises an exception.
        """
        self._check_law(law, program, simplify_program)

    def _check_law(self, law: Law, case: Any, simplify: Callable[..., Any] | None = None) -> None:
        judgement = self._judge_with_new_seed(law, case)
        severity = classify_severity(law, case, judgement)
        self.tally.add(judgement, severity)
        if 0 < judgement.worst <= 1:
            nearest = [*self._nearest_cases, (judgement.worst, law, case)]
            self._nearest_cases = sorted(nearest, key=lambda near: -near[0])[:N_NEAREST_CASES]
        if severity is None:
            return
        if severity not in self.failing_severities and not (self.search and self.search.any_severity):
            self._keep_to_list(law, case, judgement, severity)
        elif self.search is None or self.search.is_news((severity, judgement.raised)):
            violation = self.make_violation(law, case, judgement)
            judge = partial(self._judge_if_alike, violation)
            find_simpler_case = partial(simplify, case, judge) if simplify else None
            if self.search is None or self.search.pursues(violation, find_simpler_case):
                if self.failure is None:
                    self.announce(violation)
                self.failure, self.find_simpler_case = violation, find_simpler_case
                raise violation

    def _keep_to_list(self, law: Law, case: Any, judgement: Judgement, severity: Severity) -> None:
        """Keep a violation that does not fail, if it is the better one to show of its severity."""
        before = self.listed.get(severity)
        if before and severity == "lossy" and judgement.loss <= before.judgement.loss:
            return
        new = self.make_violation(law, case, judgement)
        if before is None or severity == "lossy" or len(str(new)) < len(str(before)):
            self.listed[severity] = new
            self.announce(new)

    def _judge_if_alike(self, violation: LawViolation, case: Any) -> Judgement:
        """Judge a simpler case by the law of a violation; it agrees if it breaks the law in another way.

        A wrong number does not become an exception by being simpler, nor the reverse; what is at the edge
        may become more severe.
        """
        judgement = self._judge_with_new_seed(violation.law, case)
        severity = classify_severity(violation.law, case, judgement)
        return judgement if explains(severity, judgement.raised, *violation.kind) else Judgement("agree")

    def _judge_with_new_seed(self, law: Law, case: Any) -> Judgement:
        """Judge the case with the global random generators in a state of their own.

        Hypothesis seeds them alike for each example, so that a backend that is wrong at random would be so in
        all or none.
        """
        self._check_count += 1
        random.seed(self._check_count)
        np.random.seed(self._check_count)  # noqa: NPY002 - it is the backend that may use it
        return self.judge_case(law, self.backend, case)

    def measure_margin(self) -> None:
        """Judge the cases that came nearest to what is allowed once more, by all of the noise.

        The noise only grows: a case that was further off than the margin so far cannot widen it.
        """
        if self.tally.is_not_offered:
            return
        margin = 0.0
        with measure_noise_fully():
            for worst, law, case in self._nearest_cases:
                if worst > margin:
                    # A backend that is wrong at random may be so now, or raise.
                    again = self._judge_with_new_seed(law, case)
                    margin = max(margin, worst if again.verdict == "disagree" else min(worst, again.worst))
        self.tally.margin = margin if self.tally.margin is None else max(margin, self.tally.margin)
        self._nearest_cases = []

    def make_violation(self, law: Law, case: Any, judgement: Judgement) -> LawViolation:
        """Return the violation that a failing judgement stands for."""
        tested = BackendLabel(self.backend.name, self.backend.device, self.source or self.backend.name)
        return LawViolation(law, tested, case, judgement)

    def simplify_failure(self) -> LawViolation | None:
        """Return the last failure, on the simplest case found that shows it, with what it looks like."""
        if self.failure and self.find_simpler_case:
            law, case = self.failure.law, self.find_simpler_case()
            violation = self.make_violation(law, case, self._judge_with_new_seed(law, case))
            if violation.explains(*self.failure.kind):  # not certain: the backend may be nondeterministic
                return self._explain(violation)
        return self.failure and self._explain(self.failure)

    def _explain(self, failure: LawViolation) -> LawViolation:
        """Return the failure with what it looks like below its reason."""
        lines = [failure.judgement.reason, *explain(failure, self.backend, self.judge_case)]
        judgement = replace(failure.judgement, reason="\n  ".join(lines))
        return self.make_violation(failure.law, failure.case, judgement)

    def find_deviation(self, test: str, dtype: str) -> Deviation | None:
        """Return the first deviation declared for the property of this test name in a dtype; None without."""
        deviations = (d for d in self.backend.deviations if d.op == self.name and d.excuses(dtype))
        return next((d for d in deviations if d.law in ("", to_sentence(test))), None)

    def list_sound_dtypes(self, test: str) -> list[str]:
        """Return the dtypes in which the backend declares no deviation for the property of this test name."""
        return [dtype for dtype in self.dtypes if self.find_deviation(test, dtype) is None]

    @contextmanager
    def restrict_dtypes(self, dtypes: Sequence[str]) -> Iterator[None]:
        """Try only these dtypes within the block."""
        before, self.dtypes = self.dtypes, dtypes
        try:
            yield
        finally:
            self.dtypes = before

    def require_informative_cases(self) -> None:
        """Check that enough of the cases could have failed, if there were many.

        Cases that the backend declined are left out, but may not leave next to nothing: unless it declined
        every one, and offers nothing to be tested.

        Raises:
            AssertionError: Hardly any case could have failed.
        """
        judged, informative = self.tally.judged, self.tally.informative
        declined = self.tally.declined
        enough = MIN_INFORMATIVE_SHARE * max(judged - declined, MIN_CASES)
        if judged >= MIN_CASES and informative < enough and not self.tally.is_not_offered:
            why = "the others had all-zero gradients, overflowed or were too imprecise to judge"
            advice = "Draw other values, or restrict the property with `when=`."
            if declined:
                why = f"{declined} were declined, {why}"
                advice = "Let the op take more of them, or do not offer it."
            raise AssertionError(
                f"untested: only {informative} of {judged} cases could have failed ({why}). {advice}"
            )


@dataclass(kw_only=True, repr=False)
class OpUnderTest(BackendUnderTest):
    """One op of a backend, tried with cases of this op alone: a `BackendUnderTest` with the op's name.

    Attributes:
        op: The op.
        forms: The op itself; or, if it has several values, the op with each of those picked that the property
            applies to.
    """

    op: Op
    forms: Sequence[Op] = ()

    def __post_init__(self) -> None:
        self.forms = self.forms or self.op.value_forms

    def check_law(
        self, law: Law, case: Case, *, smooth: bool = False, adapt: Callable[[Case], Case] = lambda case: case
    ) -> None:
        """Judge the case by the law and count the judgement; report a failing case in simpler values.

        Args:
            law: The law.
            case: The case.
            smooth: Simpler values keep away from kinks.
            adapt: Changes a case, as drawn or simplified, so that the law applies to it.

        Raises:
            LawViolation: The backend breaks the law, or raises an exception.
        """
        self._check_law(law, adapt(case), partial(simplify_case, smooth=smooth, adapt=adapt))

    def check_law_on_cases(self, law: Law, data: st.DataObject, **options: Any) -> None:
        """Draw cases from `self.cases(**options)` and check the law on each."""
        for case in data.draw(self.cases(**options)):
            self.check_law(law, case, smooth=options.get("smooth", False))

    def cases(
        self,
        *,
        smooth: bool = False,
        cases_per_example: int = CASES_PER_EXAMPLE,
        max_elements: int = MAX_ELEMENTS,
        allow_long_axes: bool = False,
        prefer_many_axes: bool = False,
    ) -> st.SearchStrategy[list[Case]]:
        """Return a strategy for lists of cases, each with its own call and one of the target's dtypes.

        The arguments are those of `strategies.cases`, except that `quick` draws fewer cases per example.
        """
        return cases(
            self.forms,
            self.dtypes,
            limit_cases_to_profile(cases_per_example),
            smooth,
            max_elements,
            allow_long_axes,
            prefer_many_axes,
        )


def limit_cases_to_profile(cases_per_example: int) -> int:
    """Return this number of cases per example, or the smaller one of the profile `quick`."""
    return cases_per_example if is_thorough(settings()) else min(cases_per_example, CASES_PER_EXAMPLE_QUICK)
