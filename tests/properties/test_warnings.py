"""Warnings: no backend is blamed for one, even if warnings are made errors, and gradspec itself gives none.

A newer Python than gradspec was written for may warn where an older one did not; pytest turns warnings into
errors here, and may do so elsewhere.
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
from gradspec.properties.running.perform_property import perform_property
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest
from gradspec.reference import OPS
from tests.faults.collected_properties import applies_to, list_parameter_sets, properties
from tests.helpers.planting import make_backend_of_ops

CATEGORIES = (DeprecationWarning, SyntaxWarning, FutureWarning, UserWarning, RuntimeWarning)
OPS_OF_EACH_FAMILY = ("clip", "getitem", "layer_norm", "matmul", "maximum", "relu", "sum", "where")
DTYPES = ("float32", "float64")


def make_op_under_test(op: str) -> OpUnderTest:
    backend = make_backend_of_ops({op: OPS[op].apply})
    return OpUnderTest(name=op, op=OPS[op], backend=backend, dtypes=DTYPES)


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

    target = make_op_under_test("exp")
    perform_property(
        test_that_warns, {"op_under_test": target}, target, "drawing", profile=GENERATE_ONLY_PROFILE
    )
    assert target.tally.judged


GENERATE_ONLY_PROFILE = {"phases": [Phase.generate], "database": None, "max_examples": 2, "derandomize": True}


@pytest.mark.parametrize("op", OPS_OF_EACH_FAMILY)
def test_no_property_warns_of_its_own(op: str) -> None:
    """The backend is the spec, so every frame is gradspec's: only NumPy's warnings about numbers may come."""
    assert _count_cases_of_all_properties([op]) > 15


def test_no_property_of_a_backend_as_a_whole_warns_of_its_own() -> None:
    backend = make_backend_of_ops({name: op.apply for name, op in OPS.items()})
    target = BackendUnderTest(backend=backend, dtypes=DTYPES)
    names = [name for name in properties() if applies_to(name, target, "backend_under_test")]
    case_count = sum(
        _count_cases_of_property(properties()[name], "backend_under_test", target, parameters)
        for name in names
        for parameters in list_parameter_sets(name)
    )
    assert case_count > 5


def test_a_planted_warning_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.12, for example, warned of `~` before a Python bool, in a branch of one law."""
    import gradspec.properties.laws.extremes as law

    right = law._may_lose_numbers

    def warn_and_call(*arguments: Any) -> Any:
        warnings.warn("planted", DeprecationWarning, stacklevel=1)
        return right(*arguments)

    monkeypatch.setattr(law, "_may_lose_numbers", warn_and_call)
    with pytest.raises(DeprecationWarning, match="planted"):
        _count_cases_of_all_properties(OPS_OF_EACH_FAMILY)


def _count_cases_of_all_properties(ops: Sequence[str]) -> int:
    """Try every property on each of these ops that it applies to, and return how many cases were judged."""
    return sum(
        _count_cases_of_property(test, argument, make_op_under_test(op), parameters)
        for op in ops
        for name, test in properties().items()
        for argument in ("op_under_test", "spec_op")
        if applies_to(name, make_op_under_test(op), argument)
        for parameters in list_parameter_sets(name)
    )


def _count_cases_of_property(
    test: Callable[..., Any], argument: str, target: BackendUnderTest, parameters: dict[str, Any]
) -> int:
    """Try a property on a target and return how many cases were judged.

    Any warning is an error, except NumPy's RuntimeWarning about overflow and 0/0.
    """

    def judge_strictly(law: Law, backend: Backend, case: Any) -> Judgement:
        with warnings.catch_warnings(action="error"), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            return law(backend, case)

    before, target.judge_case = target.tally.judged, judge_strictly
    arguments = {argument: target, **parameters}
    perform_property(test, arguments, target, f"warnings-{test.__name__}", profile=GENERATE_ONLY_PROFILE)
    return target.tally.judged - before
