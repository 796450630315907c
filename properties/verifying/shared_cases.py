"""One Hypothesis test that judges all laws of an op on the same cases, and stops at the first that fails.

The cases of an example are drawn once, and each property of `properties/test_*.py` gets as many of them as
its law is worth; what the spec gives for a case is computed once for all of them (`shared_samples`). Once a
law has failed, the others draw what they drew before, so that Hypothesis can shrink, and judge nothing.
"""

import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.sizes import MAX_ELEMENTS
from gradspec.properties.drawing.hypothesis_internals import (
    get_inner_test,
    give_up_example,
    ignore_source_constants,
    set_database_key,
    set_seed,
)
from gradspec.properties.drawing.strategies import cases
from gradspec.properties.judging.attempt import Law
from gradspec.properties.judging.judgement import Judgement
from gradspec.properties.judging.severity import rank_severity
from gradspec.properties.judging.shared_samples import SharedSamples
from gradspec.properties.running.failure import BackendLabel, LawViolation
from gradspec.properties.running.perform_property import measures_margin
from gradspec.properties.running.report import PLAINEST_LAWS
from gradspec.properties.running.search import Search
from gradspec.properties.running.simplify import simplify_case
from gradspec.properties.running.tally import to_sentence
from gradspec.properties.running.targets import OpUnderTest
from gradspec.properties.running.time_left import OutOfTimeError
from gradspec.properties.verifying.asked_properties import CASES_PER_EXAMPLE, Property
from gradspec.properties.verifying.regular_laws import RegularLaw

SHRINK_SECONDS, SIMPLIFY_SECONDS = 1.0, 1.5
"""How long the search for the smallest case of a failure may take: by Hypothesis, and then by itself."""

MAX_ELEMENTS_FOR_MARGIN = 100
"""Of an array: to measure all of the noise of a larger one takes a tenth of the time of a whole run."""


class NoSuchCaseError(Exception):
    """No case of an example suits a property."""


@dataclass(kw_only=True, repr=False)
class OpUnderOneTest(OpUnderTest):
    """An op under test whose properties share their cases.

    Attributes:
        label: What stands for the backend in failures.
        shared: The cases of the present example, by whether they keep away from kinks.
        n_cases: How many of them the present property judges.
        is_passing_over: Whether nothing is judged, as another law has failed.
        counts_for_margin: Whether the margin is that of the cases that are judged now, too.
    """

    label: BackendLabel
    shared: Mapping[bool, Sequence[Case]] = field(default_factory=dict)
    n_cases: int = CASES_PER_EXAMPLE
    is_passing_over: bool = False
    counts_for_margin: bool = False

    def check_law(
        self, law: Law, case: Case, *, smooth: bool = False, adapt: Callable[[Case], Case] = lambda case: case
    ) -> None:
        if not self.is_passing_over:
            nearest = self._nearest_cases
            simplify = partial(simplify_case, smooth=smooth, adapt=adapt, seconds=SIMPLIFY_SECONDS)
            self._check_law(law, adapt(case), simplify)
            if not self.counts_for_margin or _count_elements(case) > MAX_ELEMENTS_FOR_MARGIN:
                self._nearest_cases = nearest

    def cases(
        self,
        *,
        smooth: bool = False,
        cases_per_example: int = CASES_PER_EXAMPLE,
        max_elements: int = MAX_ELEMENTS,
        allow_long_axes: bool = False,
        prefer_many_axes: bool = False,
    ) -> st.SearchStrategy[list[Case]]:
        """Return a strategy for the cases of the example that suit a property; it draws nothing.

        Raises:
            NoSuchCaseError: There is none.
        """
        suitable = [
            case
            for case in self.shared[smooth]
            if case.op in self.forms and (allow_long_axes or _count_elements(case) <= max_elements)
        ]
        if not suitable:
            raise NoSuchCaseError
        return st.just(suitable[: min(self.n_cases, cases_per_example)])

    def make_violation(self, law: Law, case: Any, judgement: Judgement) -> LawViolation:
        return LawViolation(law, self.label, case, judgement)


def _count_elements(case: Case) -> int:
    return max((x.size for x in (*case.inputs, case.cotangent)), default=0)


def find_violation(
    target: OpUnderOneTest,
    properties: Sequence[Property],
    regular_laws: Sequence[RegularLaw],
    n_examples: int,
    seed: int | None,
) -> LawViolation | None:
    """Return the first violation that is no matter of extreme numbers alone, on the smallest case found.

    Where that is of a law other than the plainest, these are asked of further examples first: an example of
    zeros, the first that is drawn, may show no more of a wrong value than its second derivatives.

    Args:
        target: The op under test; its tally counts the judgements.
        properties: The properties, the most telling first, whose cases are drawn.
        regular_laws: The laws that are asked of regular cases, always the same, after that.
        n_examples: How many examples are drawn.
        seed: What they are drawn from; None for other ones each time, as the settings of Hypothesis say.
    """
    violation = _search_for_violation(target, properties, regular_laws, n_examples, seed)
    plainest = [p for p in properties if to_sentence(p.name) in PLAINEST_LAWS]
    if not plainest or not violation or violation.law_sentence in PLAINEST_LAWS:
        return violation
    found = _search_for_violation(target, plainest, (), n_examples, seed)
    return found if found and found.explains(*violation.kind) else violation


def _search_for_violation(
    target: OpUnderOneTest,
    properties: Sequence[Property],
    regular_laws: Sequence[RegularLaw],
    n_examples: int,
    seed: int | None,
) -> LawViolation | None:
    """Return the first violation as `find_violation` does, of these laws alone."""
    target.search, target.failure = Search(), None
    error: BaseException | None = None
    with _leave_no_trace(), SharedSamples().use_for(target.name):
        try:
            with _bound_shrinking(target):
                _make_test(target, properties, n_examples, seed)()
            for regular in regular_laws:
                _check_regular_law(target, regular)
        except BaseException as caught:
            if target.failure is None or isinstance(caught, KeyboardInterrupt):
                raise
            error = caught
        return _choose_violation(target, error)


def _make_test(
    target: OpUnderOneTest, properties: Sequence[Property], n_examples: int, seed: int | None
) -> Callable[[], None]:
    restricted = [(p, forms.forms) for p in properties if (forms := p.restrict(target))]
    failed: list[Property] = []
    needs_kinks = any(form.kinks is not None for form in target.forms)

    @_derive_settings(n_examples, seed)
    @given(data=st.data())
    def judge_all_laws(data: st.DataObject) -> None:
        drawn = data.draw(_draw_cases(target, True))
        target.shared = {True: drawn, False: data.draw(_draw_cases(target, False)) if needs_kinks else drawn}
        for p, forms in restricted:
            target.is_passing_over = bool(failed) and p is not failed[0]
            target.forms, before = forms, target.forms
            target.n_cases, target.counts_for_margin = p.n_cases, measures_margin(p.test)
            try:
                get_inner_test(p.test)(target, data)
            except NoSuchCaseError:
                pass
            except LawViolation:
                failed[:] = [p]
                raise
            finally:
                target.forms, target.is_passing_over, target.counts_for_margin = before, False, False
            if failed and p is failed[0]:
                give_up_example(data)

    set_database_key(judge_all_laws, f"{target.name} by {target.backend.name}")
    if seed is not None:
        set_seed(judge_all_laws, seed)
    return judge_all_laws if restricted else lambda: None


def _draw_cases(target: OpUnderOneTest, smooth: bool) -> st.SearchStrategy[list[Case]]:
    return cases(target.forms, target.dtypes, CASES_PER_EXAMPLE, smooth, allow_long_axes=True)


def _derive_settings(n_examples: int, seed: int | None) -> settings:
    """Return the settings of the test: those of the caller, but for what a run of `verify` decides itself."""
    parent = settings()
    with warnings.catch_warnings(action="ignore"):  # Hypothesis' own, where its folder cannot be written
        database = None if seed is not None else parent.database
    return settings(
        parent,
        max_examples=n_examples,
        deadline=None,
        database=database,
        derandomize=parent.derandomize and seed is None,
        phases=[phase for phase in parent.phases if phase is not Phase.explain],
        report_multiple_bugs=False,
        suppress_health_check=[*HealthCheck.__members__.values()],
        verbosity=Verbosity.quiet,
        print_blob=False,
    )


def _check_regular_law(target: OpUnderOneTest, regular: RegularLaw) -> None:
    forms = [form for form in target.forms if regular.applies_to(form, target.backend)]
    for case in regular.iterate_cases(forms, target.dtypes) if forms else ():
        target.check_law(regular.law, case, smooth=regular.smooth and case.op.differentiable)


@contextmanager
def _bound_shrinking(target: OpUnderOneTest) -> Iterator[None]:
    """Raise `OutOfTimeError` within the block once a failure has been shrunk for long enough."""
    judge, end = target.judge_case, float("inf")

    def judge_in_time(law: Law, backend: Backend, case: Any) -> Judgement:
        nonlocal end
        if target.failure is not None:
            end = min(end, time.monotonic() + SHRINK_SECONDS)
            if time.monotonic() > end:
                raise OutOfTimeError
        return judge(law, backend, case)

    target.judge_case = judge_in_time
    try:
        yield
    finally:
        target.judge_case = judge


def _choose_violation(target: OpUnderOneTest, error: BaseException | None) -> LawViolation | None:
    """Return the violation that was pursued, else the worst of those passed over, on a simpler case."""
    assert target.search is not None
    if isinstance(error, Flaky):
        assert target.failure is not None
        return target.failure.as_flaky()
    if target.failure is None:
        passed_over = sorted(
            target.search.list_unexplained(), key=lambda item: rank_severity(item[0].severity or "")
        )
        if not passed_over:
            return None
        target.failure, target.find_simpler_case = passed_over[0]
    return target.simplify_failure()


@contextmanager
def _leave_no_trace() -> Iterator[None]:
    """Give the generators of random numbers back as they were, and let no filter make warnings errors."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - they are the caller's
    try:
        with warnings.catch_warnings(action="ignore"), ignore_source_constants():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
