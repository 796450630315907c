"""What a run tries: the selected ops of the selected backends, those of them that a property speaks of, and one shard."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import pytest

from gradspec.backends import Backend, Unavailable, load
from gradspec.properties.running import options
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest
from gradspec.reference import OPS

TARGET_FIXTURES = {"op_under_test", "spec_op", "backend_under_test"}


class Selection:
    """What the command line selects."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.is_whole_run = False  # whether all properties of every subject are tried

    @cached_property
    def backends_by_source(self) -> dict[str, Backend | Unavailable]:
        return options.load_selected_backends(self.config)

    @property
    def available_backends(self) -> Iterator[tuple[str, Backend]]:
        return ((source, b) for source, b in self.backends_by_source.items() if isinstance(b, Backend))

    @property
    def unavailable(self) -> dict[str, str]:
        """Of backends that cannot run here, why."""
        return {
            n: str(b).removeprefix(f"{n}: ")
            for n, b in self.backends_by_source.items()
            if isinstance(b, Unavailable)
        }

    @property
    def not_offered(self) -> dict[str, list[str]]:
        """By backend, which of the selected ops it does not have."""
        selected = options.get_selected_ops(self.config)
        return {b.name: [op for op in selected if op not in b.ops] for _, b in self.available_backends}

    def summarize(self) -> dict[str, Any]:
        """What the report says of it, in plain values, which go from one process to another."""
        known = {b.name: dict(b.known) for _, b in self.available_backends}
        return {"unavailable": self.unavailable, "not_offered": self.not_offered, "known": known}

    def iterate_backends_under_test(self) -> Iterator[BackendUnderTest]:
        for source, backend in self.available_backends:
            if dtypes := [d for d in options.get_selected_dtypes(self.config) if d in backend.dtypes]:
                yield BackendUnderTest(backend=backend, source=source, dtypes=dtypes)

    def iterate_ops_under_test(self) -> Iterator[OpUnderTest]:
        for engine in self.iterate_backends_under_test():
            for name in options.get_selected_ops(self.config):
                if name in engine.backend.ops:
                    yield OpUnderTest(
                        name=name,
                        op=OPS[name],
                        backend=engine.backend,
                        source=engine.source,
                        dtypes=engine.dtypes,
                    )

    def iterate_spec_ops(self) -> Iterator[OpUnderTest]:
        if self.config.getoption("backend") and "numpy" not in self.backends_by_source:
            return  # who asks for a backend asks nothing of the spec
        itself = replace(load("numpy"), name="spec")
        for name in options.get_selected_ops(self.config):
            yield OpUnderTest(name=name, op=OPS[name], backend=itself, source="numpy", dtypes=["float64"])

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        """Give a property what it speaks of."""
        candidates = {
            "op_under_test": self.iterate_ops_under_test,
            "spec_op": self.iterate_spec_ops,
            "backend_under_test": self.iterate_backends_under_test,
        }
        for argument in TARGET_FIXTURES & {*metafunc.fixturenames}:
            spoken_of = [s for s in candidates[argument]() if _property_applies(metafunc, s)]
            metafunc.parametrize(argument, [pytest.param(s, id=repr(s)) for s in spoken_of])

    def filter_items(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """The items without properties that speak of nothing selected, which pytest would show as skipped."""
        return [
            item
            for item in items
            if get_target(item) or not TARGET_FIXTURES & {*getattr(item, "fixturenames", ())}
        ]

    def note_whole_run(self, before: list[pytest.Item], after: list[pytest.Item]) -> None:
        """Note whether what is left of the items after everyone's selection is every property there is."""
        folders = all("::" not in arg and not arg.endswith(".py") for arg in self.config.args)
        self.is_whole_run = folders and len(before) == len(after)


def split_shard(items: list[pytest.Item], i: int, n: int) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The items of the i-th of n shards, and the others. All properties of one op of one backend are in one shard."""
    keys = sorted({_get_shard_key(item) for item in items})
    mine = {key for k, key in enumerate(keys) if k % n == i - 1}
    return [x for x in items if _get_shard_key(x) in mine], [
        x for x in items if _get_shard_key(x) not in mine
    ]


def get_target(item: pytest.Item) -> BackendUnderTest | None:
    """What an item tries its property on."""
    params: Any = getattr(getattr(item, "callspec", None), "params", {}).values()
    return next((p for p in params if isinstance(p, BackendUnderTest)), None)


def _get_shard_key(item: pytest.Item) -> tuple[str, str]:
    tried = get_target(item)
    return (tried.backend.name, tried.name) if tried else ("", item.nodeid)


def _property_applies(metafunc: pytest.Metafunc, target: BackendUnderTest) -> bool:
    return all(mark.kwargs["when"](target) for mark in metafunc.definition.iter_markers("property"))
