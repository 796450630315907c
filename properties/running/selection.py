"""What a run tries: the selected ops of the selected backends, those of them that a property speaks of, and one shard."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import pytest

from gradspec.backends import Backend, Unavailable, load
from gradspec.properties.running import options
from gradspec.properties.running.subject import Engine, Subject
from gradspec.reference import OPS

ARGUMENTS = {"subject", "spec", "engine"}


class Selection:
    """What the command line selects."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.whole = False  # whether all properties of every subject are tried

    @cached_property
    def found(self) -> dict[str, Backend | Unavailable]:
        return options.backends(self.config)

    @property
    def backends(self) -> Iterator[tuple[str, Backend]]:
        return ((source, b) for source, b in self.found.items() if isinstance(b, Backend))

    @property
    def unavailable(self) -> dict[str, str]:
        """Of backends that cannot run here, why."""
        return {n: str(b).removeprefix(f"{n}: ") for n, b in self.found.items() if isinstance(b, Unavailable)}

    @property
    def not_offered(self) -> dict[str, list[str]]:
        """By backend, which of the selected ops it does not have."""
        selected = options.ops(self.config)
        return {b.name: [op for op in selected if op not in b.ops] for _, b in self.backends}

    def told(self) -> dict[str, Any]:
        """What the report says of it, in plain values, which go from one process to another."""
        known = {b.name: dict(b.known) for _, b in self.backends}
        return {"unavailable": self.unavailable, "not_offered": self.not_offered, "known": known}

    def engines(self) -> Iterator[Engine]:
        for source, backend in self.backends:
            if dtypes := [d for d in options.dtypes(self.config) if d in backend.dtypes]:
                yield Engine(backend=backend, source=source, dtypes=dtypes)

    def subjects(self) -> Iterator[Subject]:
        for engine in self.engines():
            for name in options.ops(self.config):
                if name in engine.backend.ops:
                    yield Subject(
                        name=name,
                        op=OPS[name],
                        backend=engine.backend,
                        source=engine.source,
                        dtypes=engine.dtypes,
                    )

    def specs(self) -> Iterator[Subject]:
        if self.config.getoption("backend") and "numpy" not in self.found:
            return  # who asks for a backend asks nothing of the spec
        itself = replace(load("numpy"), name="spec")
        for name in options.ops(self.config):
            yield Subject(name=name, op=OPS[name], backend=itself, source="numpy", dtypes=["float64"])

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        """Give a property what it speaks of."""
        candidates = {"subject": self.subjects, "spec": self.specs, "engine": self.engines}
        for argument in ARGUMENTS & {*metafunc.fixturenames}:
            spoken_of = [s for s in candidates[argument]() if _applies(metafunc, s)]
            metafunc.parametrize(argument, [pytest.param(s, id=repr(s)) for s in spoken_of])

    def keep(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """The items without properties that speak of nothing selected, which pytest would show as skipped."""
        return [
            item for item in items if tried_by(item) or not ARGUMENTS & {*getattr(item, "fixturenames", ())}
        ]

    def look(self, before: list[pytest.Item], after: list[pytest.Item]) -> None:
        """Note whether what is left of the items after everyone's selection is every property there is."""
        folders = all("::" not in arg and not arg.endswith(".py") for arg in self.config.args)
        self.whole = folders and len(before) == len(after)


def shard_of(items: list[pytest.Item], i: int, n: int) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The items of the i-th of n shards, and the others. All properties of one op of one backend are in one shard."""
    keys = sorted({_key(item) for item in items})
    mine = {key for k, key in enumerate(keys) if k % n == i - 1}
    return [x for x in items if _key(x) in mine], [x for x in items if _key(x) not in mine]


def tried_by(item: pytest.Item) -> Engine | None:
    """What an item tries its property on."""
    params: Any = getattr(getattr(item, "callspec", None), "params", {}).values()
    return next((p for p in params if isinstance(p, Engine)), None)


def _key(item: pytest.Item) -> tuple[str, str]:
    tried = tried_by(item)
    return (tried.backend.name, tried.name) if tried else ("", item.nodeid)


def _applies(metafunc: pytest.Metafunc, tried: Engine) -> bool:
    return all(mark.kwargs["when"](tried) for mark in metafunc.definition.iter_markers("property"))
