"""What becomes of a run whose adapter fails: where every op would fail with it, nothing else is tried.

The failure is told once, as the adapter's, by the property that asks for it. So that no other property runs
into the same wall, each process of a run asks it once more, of each backend, before it tries anything else.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from gradspec.properties.laws.first_contact import ADAPTER, FirstContact, stops_the_rest
from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.places import UntestedPropertyError
from gradspec.properties.running.selection import does_property_apply, get_target
from gradspec.properties.running.tally import Tally
from gradspec.properties.running.targets import BackendUnderTest

Perform = Callable[[pytest.Function, BackendUnderTest], None]
"""Tries the property of an item on a target; raises `LawViolation`."""


class FirstContacts:
    """Knows in which dtypes the adapters of the backends fail.

    Args:
        perform: Tries a property.
    """

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._items: dict[str, pytest.Function] = {}
        self._failing_dtypes: dict[str, list[str]] = {}

    def sort(self, items: list[pytest.Item]) -> None:
        """Put the items that try adapters before all others, and remember them.

        Where none was selected nothing is left out, since the failure would be told nowhere.
        """
        items.sort(key=lambda item: not _tries_adapter(item))
        for item in items:
            target = get_target(item)
            if target and _tries_adapter(item) and isinstance(item, pytest.Function):
                self._items[target.source] = item

    def list_dtypes_to_try(self, item: pytest.Item, target: BackendUnderTest) -> list[str]:
        """Return the dtypes in which the property of an item is worth trying on its target.

        Raises:
            pytest.skip.Exception: There is none.
        """
        failing = [] if _tries_adapter(item) else self._find_failing_dtypes(target.source)
        dtypes = [dtype for dtype in target.dtypes if dtype not in failing]
        if failing and not (
            dtypes and does_property_apply(item.iter_markers, replace(target, dtypes=dtypes))
        ):
            pytest.skip(f"the adapter of {target.backend.name} fails in {' and '.join(failing)}")
        return dtypes

    def explain(self, violation: LawViolation) -> LawViolation:
        """Return the violation; one of an adapter that keeps other properties from being tried says so."""
        contact, judgement = violation.case, violation.judgement
        if not (isinstance(contact, FirstContact) and stops_the_rest(contact, judgement)):
            return violation
        reason = f"{judgement.reason}\n  until this is fixed, nothing else is tried in {contact.dtype}"
        judgement = replace(judgement, reason=reason)
        return LawViolation(violation.law, violation.backend, contact, judgement)

    def _find_failing_dtypes(self, source: str) -> list[str]:
        item = self._items.get(source)
        if item and source not in self._failing_dtypes:
            adapter = get_target(item)
            dtypes: Iterable[str] = adapter.dtypes if adapter else ()
            self._failing_dtypes[source] = [d for d in dtypes if self._stops_the_rest(item, d)]
        return self._failing_dtypes.get(source, [])

    def _stops_the_rest(self, item: pytest.Function, dtype: str) -> bool:
        target = get_target(item)
        assert target
        try:
            self._perform(item, replace(target, dtypes=[dtype], tally=Tally(), failure=None, listed={}))
        except LawViolation as violation:
            contact = violation.case
            return isinstance(contact, FirstContact) and stops_the_rest(contact, violation.judgement)
        except UntestedPropertyError:
            return False
        return False


def _tries_adapter(item: pytest.Item) -> bool:
    target = get_target(item)
    return target is not None and target.name == ADAPTER
