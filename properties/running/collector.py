"""Where reports come together: under xdist in the process that started the workers."""

import signal
import threading
from collections import Counter
from collections.abc import Generator
from functools import cached_property
from typing import Any, NoReturn

import pytest
from hypothesis import settings
from rich.console import Console

from gradspec.backends.backend import Deviation
from gradspec.properties.running import options, report
from gradspec.properties.running.matrix import Entry
from gradspec.properties.running.options import is_thorough
from gradspec.properties.running.run import SEEN
from gradspec.properties.running.selection import Selection


class Collector:
    """Collects what the properties found, shows it at the end of the run, however that ends, and writes it down."""

    def __init__(self, config: pytest.Config, selection: Selection) -> None:
        self.config = config
        self.selection = selection
        self.report = report.Report()
        self.seen: Counter[str] = Counter()
        self.whole = False
        self.interrupted = False
        self._hidden: list[Any] = []
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: what there is gets reported

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if found := getattr(report, "gradspec", None):
            self._add(report.nodeid, found)

    def _add(self, nodeid: str, found: dict[str, Any]) -> None:
        entry = Entry.from_json(found["entry"])
        self.report.entries.append(entry)
        self.seen[nodeid] += entry.tally.informative
        self.whole = found["whole"]
        if "failure" in found:
            self.report.failures.append(report.Failure(**found["failure"]))

    @property
    def gone(self) -> list[str]:
        if self.interrupted or not self.whole or not is_thorough(settings()):
            return []
        known = self.selected["known"].items()
        return self.report.gone(
            {name: [Deviation.declared(*d) for d in said.items()] for name, said in known}
        )

    @cached_property
    def selected(self) -> dict[str, Any]:
        """What was selected: a worker says so as it ends, which saves this process importing every library."""
        return self.selection.told()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        if told := getattr(node, "workeroutput", {}).get("gradspec"):
            self.selected = told

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.report.entries:
            return
        self.interrupted = session.exitstatus == pytest.ExitCode.INTERRUPTED
        self.report.collapse()
        if self.gone and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if path := options.matrix_file(self.config):
            self.report.save(path, interrupted=self.interrupted, gone=self.gone, **self._untested())
        self._remember()

    def _untested(self) -> dict[str, Any]:
        return {name: self.selected[name] for name in ("unavailable", "not_offered")}

    def _remember(self) -> None:
        """Keep what --budget needs to know next time."""
        cache = getattr(self.config, "cache", None)
        if cache and options.budget(self.config):
            cache.set(SEEN, dict(Counter(cache.get(SEEN, {})) + self.seen))

    @pytest.hookimpl(specname="pytest_terminal_summary", wrapper=True, tryfirst=True)
    def pytest_hide_failures(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        """Keep failures of properties out of pytest's own section: ours shows them, each once."""
        failed = terminalreporter.stats.get("failed", [])
        self._hidden = [r for r in failed if hasattr(r, "gradspec")]
        terminalreporter.stats["failed"] = [r for r in failed if not hasattr(r, "gradspec")]
        return (yield)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.stats["failed"] += self._hidden
        if not terminalreporter.stats["failed"]:
            del terminalreporter.stats["failed"]
        if not self.report.entries:
            return
        width = max(terminalreporter._tw.fullwidth, 100)
        console = Console(file=terminalreporter._tw._file, width=width)
        if self.report.failures:
            terminalreporter.section("what disagrees")
            report.show_failures(self.report, console)
        terminalreporter.section("gradspec" + (", interrupted" if self.interrupted else ""))
        report.show_matrix(self.report, console, **self._untested())
        report.show_gone(self.gone, console)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt("terminated")
