"""Planting faults: backends with wrong rules in place of right ones, and whether a property notices."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gradspec.backends import Backend, load
from gradspec.properties.drawing.hypothesis_internals import set_seed
from gradspec.properties.running.failure import Law, LawViolation
from gradspec.properties.running.targets import OpUnderTest
from gradspec.reference import OPS, VJP, record

SEED = 0  # of all of them: what is drawn does not hang on the text of a test
QUIET_SETTINGS = settings(
    max_examples=40, derandomize=True, database=None, deadline=None, phases=[Phase.generate]
)  # as many examples as the default profile or a few more, and always the same ones; what is found need not be small


def make_backend_of_rules(**rules: Callable[..., VJP]) -> Backend:
    """A backend that offers just these rules, under the names of the ops they claim to be."""
    return make_backend_of_ops({name: record(rule) for name, rule in rules.items()})


def make_backend_of_ops(ops: Mapping[str, Callable[..., Any]], name: str = "planted") -> Backend:
    """The numpy backend with other ops than its own."""
    return replace(load("numpy"), name=name, ops=ops)


def find_violation(
    law: Law,
    backend: Backend,
    *,
    example_settings: settings = QUIET_SETTINGS,
    draw_cases: Callable[[OpUnderTest], st.SearchStrategy[list[Any]]] | None = None,
    **cases: Any,
) -> LawViolation | None:
    """How the one op of the backend breaks a law on drawn cases (`Subject.cases` takes the keywords), or None.

    drawn: what the cases are drawn by instead.
    """
    (name,) = backend.ops
    subject = OpUnderTest(
        name=name, op=OPS[name], backend=backend, dtypes=sorted(backend.dtypes, reverse=True)
    )

    @example_settings
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        if draw_cases is None:
            subject.check_law_on_cases(law, data, **cases)
        else:
            for case in data.draw(draw_cases(subject)):
                subject.check_law(law, case)

    set_seed(check, SEED)
    try:
        check()
    except LawViolation as found:
        return found
    return None
