"""The selection of a run: which ops of which backends, which of them suit a property, and which shard."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, replace
from typing import Any

import pytest

from gradspec.backends import Backend, Unavailable, load
from gradspec.backends.backend import DTYPES
from gradspec.properties.cases.program_ops import classify_ops, list_program_ops
from gradspec.properties.judging.spec_backend import get_spec_backend
from gradspec.properties.laws.first_contact import ADAPTER
from gradspec.properties.running import options
from gradspec.properties.running.backends_of_run import BackendsOfRun
from gradspec.properties.running.op_selection import (
    PROGRAMS,
    SPEC,
    list_missing_ops,
    list_ops_on_trial,
    list_selected_ops,
    selects_programs,
)
from gradspec.properties.running.tally import to_sentence
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest
from gradspec.reference import OPS

TARGET_FIXTURES = {"op_under_test", "spec_op", "backend_under_test", "adapter_under_test"}


class Selection:
    """What the command line selects: backends, ops and dtypes."""

    def __init__(self, config: pytest.Config, backends: BackendsOfRun) -> None:
        self.config = config
        self.backends = backends
        self.is_whole_run = False  # whether every property is tried on all that is selected
        self._backends_asked: dict[str, list[str]] = {}  # of each property, by the name of its test
        self._backends_seen: dict[str, None] = {}

    @property
    def backends_by_source(self) -> dict[str, Backend | Unavailable]:
        return self.backends.by_source

    @property
    def available_backends(self) -> Iterator[tuple[str, Backend]]:
        return ((source, b) for source, b in self.backends_by_source.items() if isinstance(b, Backend))

    @property
    def unavailable(self) -> dict[str, str]:
        """Why a backend cannot run here, by its name."""
        return {
            n: str(b).removeprefix(f"{n}: ")
            for n, b in self.backends_by_source.items()
            if isinstance(b, Unavailable)
        }

    @property
    def not_offered(self) -> dict[str, list[str]]:
        """What is selected of ops and a backend does not have, by its name."""
        return {b.name: list_missing_ops(self.config, b) for _, b in self.available_backends}

    def summarize(self) -> dict[str, Any]:
        """Return what the report needs to know, in plain values that can be sent to another process."""
        known = {
            b.name: [astuple(d) for d in b.deviations] for _, b in self.available_backends
        }  # without entries for other versions than those installed
        return {
            "unavailable": self.unavailable,
            "not_offered": self.not_offered,
            "not_asked": self.not_asked,
            "known": known,
            "laws": self._list_reachable_laws(),
            "declines": self._declines,
        }

    @property
    def not_asked(self) -> dict[str, list[str]]:
        """The laws that a backend is not asked, though others are or its ops are selected, by its name."""
        return {
            backend: [test for test, asked in self._backends_asked.items() if backend not in asked]
            for backend in self._backends_seen
        }

    def _list_reachable_laws(self) -> list[str]:
        """Return the laws that are tried on all ops that they are asked of, in every dtype; else none."""
        is_all = len(options.get_selected_dtypes(self.config)) == len(DTYPES)
        return list(map(to_sentence, self._backends_asked)) if is_all else []

    @property
    def _declines(self) -> dict[str, list[tuple[Any, ...]]]:
        """What each backend says it declines, in the selected dtypes, by its name."""
        dtypes = {*options.get_selected_dtypes(self.config)}
        return {
            b.name: [astuple(d) for d in b.declared_declines if not d.dtypes or d.dtypes & dtypes]
            for _, b in self.available_backends
        }

    def iterate_backends_under_test(self) -> Iterator[BackendUnderTest]:
        """Yield the backends whose programs are tried."""
        if selects_programs(self.config):
            yield from self._iterate_whole_backends(PROGRAMS)

    def iterate_adapters_under_test(self) -> Iterator[BackendUnderTest]:
        """Yield the backends whose adapters are tried: those that are tried at all."""
        for adapter in self._iterate_whole_backends(ADAPTER):
            has_programs = classify_ops(list_program_ops(adapter.backend)).of_several
            tries_programs = selects_programs(self.config) and has_programs
            if tries_programs or list_selected_ops(self.config, adapter.backend):
                yield adapter

    def _iterate_whole_backends(self, name: str) -> Iterator[BackendUnderTest]:
        for source, backend in self.available_backends:
            if dtypes := [d for d in options.get_selected_dtypes(self.config) if d in backend.dtypes]:
                yield BackendUnderTest(
                    name=name,
                    backend=backend,
                    source=source,
                    dtypes=dtypes,
                    failing_severities=options.get_failing_severities(self.config),
                )

    def iterate_ops_under_test(self) -> Iterator[OpUnderTest]:
        """Yield each op with each backend that offers it: those of an op in turn, as they share samples."""
        wholes = [
            (whole, {*list_selected_ops(self.config, whole.backend)})
            for whole in self._iterate_whole_backends(PROGRAMS)
        ]
        for address, op in OPS.items():
            for whole, selected in wholes:
                if address in selected:
                    yield OpUnderTest(
                        name=address,
                        op=op,
                        backend=whole.backend,
                        source=whole.source,
                        dtypes=whole.dtypes,
                        failing_severities=whole.failing_severities,
                    )

    def iterate_spec_ops(self) -> Iterator[OpUnderTest]:
        """Yield the ops that are tried in the spec itself: those of gradspec only with the backend numpy."""
        own = list_ops_on_trial(self.config, (b for _, b in self.available_backends))
        is_spec_tried = not self.config.getoption("backend") or "numpy" in self.backends_by_source
        of_spec = list_selected_ops(self.config, load("numpy")) if is_spec_tried else []
        backend = replace(get_spec_backend(), name=SPEC)
        for address in (*own, *of_spec):
            op = OPS[address]
            yield OpUnderTest(name=address, op=op, backend=backend, source="numpy", dtypes=["float64"])

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize a property with the targets that it applies to."""
        candidates = {
            "op_under_test": self.iterate_ops_under_test,
            "spec_op": self.iterate_spec_ops,
            "backend_under_test": self.iterate_backends_under_test,
            "adapter_under_test": self.iterate_adapters_under_test,
        }
        for argument in TARGET_FIXTURES & {*metafunc.fixturenames}:
            selected = [*candidates[argument]()]
            restricted = (restrict_to_property(metafunc.definition.iter_markers, t) for t in selected)
            targets = [target for target in restricted if target]
            self._backends_seen |= dict.fromkeys(t.backend.name for t in selected)
            if selected:
                asked = self._backends_asked.setdefault(metafunc.definition.originalname, [])
                asked += {t.backend.name for t in targets}
            metafunc.parametrize(argument, [pytest.param(target, id=repr(target)) for target in targets])

    def drop_items_without_target(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """Return the items without properties that have no target, which pytest would show as skipped."""
        return [
            item
            for item in items
            if get_target(item) or not TARGET_FIXTURES & {*getattr(item, "fixturenames", ())}
        ]

    def note_whole_run(self, before: list[pytest.Item], after: list[pytest.Item]) -> None:
        """Note whether the run tries every property.

        Args:
            before: The items before other plugins and pytest's own options deselected any.
            after: Those after that.
        """
        folders = all("::" not in arg and not arg.endswith(".py") for arg in self.config.args)
        self.is_whole_run = folders and len(before) == len(after)


def split_shard(items: list[pytest.Item], i: int, n: int) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the items of the i-th of n shards, and the others.

    All properties of one op of one backend are in the same shard.
    """
    keys = sorted({_get_shard_key(item) for item in items})
    shard = {key for k, key in enumerate(keys) if k % n == i - 1}
    return (
        [item for item in items if _get_shard_key(item) in shard],
        [item for item in items if _get_shard_key(item) not in shard],
    )


def get_target(item: pytest.Item) -> BackendUnderTest | None:
    """Return what an item tries its property on; None if it is no property."""
    params: Any = getattr(getattr(item, "callspec", None), "params", {}).values()
    return next((p for p in params if isinstance(p, BackendUnderTest)), None)


def _get_shard_key(item: pytest.Item) -> tuple[str, str]:
    target = get_target(item)
    return (target.backend.name, target.name) if target else ("", item.nodeid)


IterateMarkers = Callable[[str], Iterable[pytest.Mark]]
"""Yields the markers of a property that have a name."""


def does_property_apply(iterate_markers: IterateMarkers, target: BackendUnderTest) -> bool:
    """Return whether a property applies to a target, or to one of the values of its op."""
    return restrict_to_property(iterate_markers, target) is not None


def restrict_to_property(
    iterate_markers: IterateMarkers, target: BackendUnderTest
) -> BackendUnderTest | None:
    """Return the target with those values of its op that a property applies to, None if there are none."""

    def applies(target: BackendUnderTest) -> bool:
        return all(
            mark.kwargs["when"](target) for mark in iterate_markers("property") if "when" in mark.kwargs
        )

    if not isinstance(target, OpUnderTest):
        return target if applies(target) else None
    forms = [form for form in target.forms if applies(replace(target, op=form, forms=(form,)))]
    return replace(target, forms=forms) if forms else None
