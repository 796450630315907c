"""A warning is no verdict: whatever makes errors of warnings, no backend is blamed for one. And gradspec gives none itself.

A Python newer than gradspec warns of what an older one let pass; pytest makes errors of warnings here, and may elsewhere.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import Law, judge_case
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.perform import perform_property
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest
from gradspec.reference import OPS
from tests.faults.collected_properties import applies_to, list_parameter_sets, properties
from tests.helpers.planting import make_backend_of_ops

CATEGORIES = (DeprecationWarning, SyntaxWarning, FutureWarning, UserWarning, RuntimeWarning)
FAMILIES = ("clip", "getitem", "layer_norm", "matmul", "maximum", "relu", "sum", "where")  # of each some
DTYPES = ("float32", "float64")


def subject_of(op: str, **more: Any) -> OpUnderTest:
    return OpUnderTest(
        name=op, op=OPS[op], backend=make_backend_of_ops({op: OPS[op].apply}), dtypes=DTYPES, **more
    )


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_warning_of_a_law_or_a_backend_is_no_failure(category: type[Warning]) -> None:
    def law_that_warns(backend: Backend, case: Case) -> Judgement:
        warnings.warn("planted", category, stacklevel=1)
        return value_agrees(backend, case)

    case = Case.of("exp", "float64", [[1.0]], {}, [1.0])
    assert judge_case(law_that_warns, make_backend_of_ops({"exp": OPS["exp"].apply}), case).verdict == "agree"

    def exp_that_warns(x: Any) -> Any:
        warnings.warn("planted", category, stacklevel=1)
        return OPS["exp"].apply(x)

    assert judge_case(value_agrees, make_backend_of_ops({"exp": exp_that_warns}), case).verdict == "agree"


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_warning_as_cases_are_drawn_is_no_failure(category: type[Warning]) -> None:
    @given(data=st.data())
    def test_that_warns(op_under_test: OpUnderTest, data: st.DataObject) -> None:
        warnings.warn("planted", category, stacklevel=1)
        op_under_test.check_law_on_cases(value_agrees, data)

    subject = subject_of("exp")
    perform_property(test_that_warns, {"op_under_test": subject}, subject, "drawing", profile=PROFILE)
    assert subject.tally.judged


PROFILE = {"phases": [Phase.generate], "database": None, "max_examples": 2, "derandomize": True}


@pytest.mark.parametrize("op", FAMILIES)
def test_no_property_warns_of_its_own(op: str) -> None:
    """All frames are gradspec's here, since the backend is the spec: but for what NumPy says of numbers, none may warn."""
    assert _try_all_properties([op]) > 15


def test_no_property_of_a_backend_as_a_whole_warns_of_its_own() -> None:
    engine = BackendUnderTest(
        backend=make_backend_of_ops({name: op.apply for name, op in OPS.items()}), dtypes=DTYPES
    )
    names = [name for name in properties() if applies_to(name, engine, "backend_under_test")]
    assert (
        sum(
            _strictly(properties()[n], "backend_under_test", engine, more)
            for n in names
            for more in list_parameter_sets(n)
        )
        > 5
    )


def test_a_planted_warning_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python 3.12 warned of `~` before a Python bool, in a branch of one law."""
    import gradspec.properties.laws.extremes as law

    right = law._may_lose_numbers

    def deprecated(*given: Any) -> Any:
        warnings.warn("planted", DeprecationWarning, stacklevel=1)
        return right(*given)

    monkeypatch.setattr(law, "_may_lose_numbers", deprecated)
    with pytest.raises(DeprecationWarning, match="planted"):
        _try_all_properties(FAMILIES)


def _try_all_properties(ops: Sequence[str]) -> int:
    """Try each property of an op on each of these. Returns how many cases were judged."""
    return sum(
        _strictly(test, argument, subject_of(op), more)
        for op in ops
        for name, test in properties().items()
        for argument in ("op_under_test", "spec_op")
        if applies_to(name, subject_of(op), argument)
        for more in list_parameter_sets(name)
    )


def _strictly(test: Callable[..., Any], argument: str, tried: BackendUnderTest, more: dict[str, Any]) -> int:
    """Try a property; an error for any warning but NumPy's of overflow and 0/0. Returns how many cases were judged."""

    def strict(law: Law, backend: Backend, case: Any) -> Judgement:
        with warnings.catch_warnings(action="error"), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            return law(backend, case)

    before, tried.judge_case = tried.tally.judged, strict
    perform_property(test, {argument: tried, **more}, tried, f"warnings-{test.__name__}", profile=PROFILE)
    return tried.tally.judged - before
