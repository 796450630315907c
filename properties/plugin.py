"""The pytest plugin: which ops and backends the properties run on, and the matrix at the end.

    pytest properties/ --backend torch --op layer_norm --dtype float32

Loaded with `-p gradspec.properties.plugin`. A property is a test with one of three arguments: `subject`, each op of each
backend; `spec`, each op of the spec itself; `engine`, each backend as a whole.
"""

import difflib
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from rich.console import Console

from gradspec.backends import Backend, Unavailable, available, load
from gradspec.properties import matrix
from gradspec.properties.case import DTYPES
from gradspec.properties.failure import Disagreement
from gradspec.properties.matrix import Entry
from gradspec.properties.subject import Engine, Subject
from gradspec.reference import OPS

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
for _name, _examples in {"quick": 6, "default": 30, "deep": 600}.items():
    settings.register_profile(
        _name, max_examples=_examples, deadline=None, report_multiple_bugs=False, suppress_health_check=_SLOW
    )
settings.load_profile("default")


_ARGUMENTS = {"subject", "spec", "engine"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gradspec")
    group.addoption(
        "--backend", action="append", default=[], help="a backend by name or module:attribute; repeatable"
    )
    group.addoption("--op", action="append", default=[], help="an op of the spec; repeatable")
    group.addoption("--dtype", action="append", default=[], help=f"one of {', '.join(DTYPES)}; repeatable")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "property(when): what the property speaks of, a predicate; everything if absent"
    )
    config.pluginmanager.register(Run(config), "gradspec-run")


class Run:
    """One run of the properties: what the command line selects, and what has come of it so far."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.entries: list[Entry] = []

    @cached_property
    def ops(self) -> list[str]:
        return _chosen("op", self.config.getoption("op"), OPS)

    @cached_property
    def dtypes(self) -> list[str]:
        return _chosen("dtype", self.config.getoption("dtype"), DTYPES)

    @cached_property
    def found(self) -> dict[str, Backend | Unavailable]:
        """The backends asked for, or else all there are, with those that cannot run here."""
        names = self.config.getoption("backend")
        if not names:
            return available()
        try:
            return {name: load(name) for name in names}
        except (Unavailable, ValueError, LookupError, ImportError, TypeError) as error:
            raise pytest.UsageError(f"--backend: {error}") from error

    def engines(self) -> Iterator[Engine]:
        for source, backend in self.found.items():
            if isinstance(backend, Backend) and (dtypes := [d for d in self.dtypes if d in backend.dtypes]):
                yield Engine(backend=backend, source=source, dtypes=dtypes)

    def subjects(self) -> Iterator[Subject]:
        for engine in self.engines():
            for name in self.ops:
                if name in engine.backend.ops:
                    yield Subject(
                        name=name,
                        op=OPS[name],
                        backend=engine.backend,
                        source=engine.source,
                        dtypes=engine.dtypes,
                    )

    def specs(self) -> Iterator[Subject]:
        itself = replace(load("numpy"), name="spec")
        return (Subject(name=name, op=OPS[name], backend=itself, dtypes=["float64"]) for name in self.ops)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for argument, candidates in (
            ("subject", self.subjects),
            ("spec", self.specs),
            ("engine", self.engines),
        ):
            if argument in metafunc.fixturenames:
                metafunc.parametrize(
                    argument, [_param(s, metafunc.function) for s in candidates() if _applies(metafunc, s)]
                )

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out properties that speak of nothing selected, which pytest would show as skipped."""
        items[:] = [
            item for item in items if _tried(item) or not _ARGUMENTS & {*getattr(item, "fixturenames", ())}
        ]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """After a property has passed, see that its cases could have failed."""
        result = yield
        if tried := _tried(item):
            tried.require_information()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Hand the tally on to the report; in place of a traceback show the failure itself, and where it is saved."""
        report = yield
        tried = _tried(item)
        if tried and report.when == "call":
            entry = Entry(item.originalname, tried.name, tried.backend.name, report.outcome, tried.tally)  # type: ignore[attr-defined]
            entry.outcome = "known" if report.skipped and hasattr(report, "wasxfail") else report.outcome
            report.user_properties.append(("gradspec", json.dumps(entry.as_json())))
            if report.failed and call.excinfo and isinstance(broken := call.excinfo.value, Disagreement):
                path = os.path.relpath(broken.save(item.config.invocation_params.dir / "failures"))
                report.longrepr = f"{broken.text()}\n  reproduce: python {path}"
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the entries; under xdist the reports of the workers arrive here too."""
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "gradspec":
                self.entries.append(Entry.from_json(json.loads(str(value))))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.entries:
            terminalreporter.section("gradspec")
            unavailable = {name: str(b) for name, b in self.found.items() if isinstance(b, Unavailable)}
            console = Console(file=terminalreporter._tw._file, width=max(terminalreporter._tw.fullwidth, 100))
            matrix.show(self.entries, unavailable, console)


def _chosen(kind: str, names: list[str], allowed: Iterable[str]) -> list[str]:
    """Those of the allowed names that are given, or all if none is; UsageError for a name that is not allowed."""
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=3, cutoff=0.5) or sorted(allowed)
            raise pytest.UsageError(
                f"--{kind} {name}: there is no such {kind}; did you mean {' or '.join(near)}?"
            )
    return [name for name in allowed if name in names or not names]


def _param(tried: Engine, test: Callable[..., Any]) -> Any:
    """What is tried, as a parameter; a deviation that the backend itself declares must fail, and show itself fixed."""
    words = test.__name__.removeprefix("test_").replace("_", " ")
    known = tried.backend.known
    why = known.get(tried.name) or known.get(f"{tried.name}: {words}")
    return pytest.param(
        tried, id=repr(tried), marks=[pytest.mark.xfail(reason=why, strict=True)] if why else []
    )


def _applies(metafunc: pytest.Metafunc, tried: Engine) -> bool:
    return all(mark.kwargs["when"](tried) for mark in metafunc.definition.iter_markers("property"))


def _tried(item: pytest.Item) -> Engine | None:
    params = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return next((p for p in params if isinstance(p, Engine)), None)
