"""Planted faults: backends with wrong rules in place of right ones, and whether a property notices them."""

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

SEED = 0
"""One for all tests, so that the cases do not depend on the text of a test."""

GENERATE_ONLY_SETTINGS = settings(
    max_examples=40, derandomize=True, database=None, deadline=None, phases=[Phase.generate]
)
"""About twice the examples of the default profile, always the same ones, and nothing is shrunk."""


def make_backend_of_rules(**rules: Callable[..., VJP]) -> Backend:
    """Return a backend that offers just these rules, under the names of the ops they claim to be."""
    return make_backend_of_ops({name: record(rule) for name, rule in rules.items()})


def make_backend_of_ops(ops: Mapping[str, Callable[..., Any]], name: str = "planted") -> Backend:
    """Return the numpy backend with these ops in place of its own."""
    return replace(load("numpy"), name=name, ops=ops)


def find_violation(
    law: Law,
    backend: Backend,
    *,
    example_settings: settings = GENERATE_ONLY_SETTINGS,
    draw_cases: Callable[[OpUnderTest], st.SearchStrategy[list[Any]]] | None = None,
    **cases: Any,
) -> LawViolation | None:
    """Check a law on drawn cases of the one op of a backend.

    Args:
        law: The law.
        backend: The backend; it has one op.
        example_settings: How many examples to draw, and how.
        draw_cases: The strategy of the cases, in place of `OpUnderTest.cases`.
        **cases: The keywords for `OpUnderTest.cases`.

    Returns:
        The violation of the law, None if there is none.
    """
    (address,) = backend.ops
    dtypes = sorted(backend.dtypes, reverse=True)
    target = OpUnderTest(name=address, op=OPS[address], backend=backend, dtypes=dtypes)

    @example_settings
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        if draw_cases is None:
            target.check_law_on_cases(law, data, **cases)
        else:
            for case in data.draw(draw_cases(target)):
                target.check_law(law, case)

    set_seed(check, SEED)
    try:
        check()
    except LawViolation as violation:
        return violation
    return None
