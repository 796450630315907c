"""The collector of all reports: under xdist it lives in the process that started the workers."""

import signal
import threading
from collections import Counter
from collections.abc import Generator
from functools import cached_property
from typing import Any, NoReturn

import pytest
from hypothesis import settings
from rich.console import Console

from gradspec.backends.backend import DeclaredDecline, Deviation
from gradspec.properties.running import options, report
from gradspec.properties.running.declined import find_stale_declines
from gradspec.properties.running.profiles import is_thorough
from gradspec.properties.running.selection import Selection
from gradspec.properties.running.tally import PropertyResult
from gradspec.properties.running.worker_plugin import INFORMATIVE_CACHE_KEY


class ControllerPlugin:
    """Collects the results of the properties; shows and saves them at the end of the run, however it ends."""

    def __init__(self, config: pytest.Config, selection: Selection) -> None:
        self.config = config
        self.selection = selection
        self.report = report.RunResults()
        self.informative_counts: Counter[str] = Counter()
        self.is_whole_run = False
        self.was_interrupted = False
        self._hidden_reports: list[Any] = []
        if threading.current_thread() is threading.main_thread():
            # SIGTERM acts like Ctrl-C: what has been found so far is reported.
            signal.signal(signal.SIGTERM, _interrupt)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if result := getattr(report, "gradspec", None):
            self._add_result(report.nodeid, result)

    def _add_result(self, nodeid: str, result: dict[str, Any]) -> None:
        entry = PropertyResult.from_json(result["entry"])
        self.report.entries.append(entry)
        self.informative_counts[nodeid] += entry.tally.informative
        self.is_whole_run = result["whole"]
        self.report.failures += [report.FailureRecord(**failure) for failure in result.get("failures", ())]
        self.report.listed += [report.FailureRecord(**violation) for violation in result.get("listed", ())]

    @property
    def stale_deviations(self) -> list[str]:
        """Complaints about what is declared but no longer shows; none without a whole, thorough run."""
        if self.was_interrupted or not self.is_whole_run or not is_thorough(settings()):
            return []
        known = self.selection_summary["known"].items()
        stale_deviations = self.report.find_stale_deviations(
            {name: [Deviation.parse(*line) for line in lines.items()] for name, lines in known}
        )
        declines = self.selection_summary["declines"].items()
        return stale_deviations + find_stale_declines(
            self.report.entries,
            {name: [DeclaredDecline.parse(*line) for line in lines.items()] for name, lines in declines},
        )

    @cached_property
    def selection_summary(self) -> dict[str, Any]:
        """What was selected. A worker sends it as it ends, so this process need not import every library."""
        return self.selection.summarize()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        if summary := getattr(node, "workeroutput", {}).get("gradspec"):
            self.selection_summary = summary

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.report.entries:
            return
        self.was_interrupted = session.exitstatus == pytest.ExitCode.INTERRUPTED
        self.report.delete_duplicate_files()
        if self.stale_deviations and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if path := options.get_matrix_file(self.config):
            self.report.save(
                path, interrupted=self.was_interrupted, gone=self.stale_deviations, **self._get_untested()
            )
        self._save_informative_counts()

    def _get_untested(self) -> dict[str, Any]:
        return {name: self.selection_summary[name] for name in ("unavailable", "not_offered")}

    def _save_informative_counts(self) -> None:
        """Save in pytest's cache what --budget needs to know in the next run."""
        cache = getattr(self.config, "cache", None)
        if cache and options.parse_budget(self.config):
            cache.set(
                INFORMATIVE_CACHE_KEY,
                dict(Counter(cache.get(INFORMATIVE_CACHE_KEY, {})) + self.informative_counts),
            )

    @pytest.hookimpl(specname="pytest_terminal_summary", wrapper=True, tryfirst=True)
    def pytest_hide_failures(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        """Hide failures of properties from pytest's own section: gradspec's section shows them, each once."""
        failed = terminalreporter.stats.get("failed", [])
        self._hidden_reports = [r for r in failed if hasattr(r, "gradspec")]
        terminalreporter.stats["failed"] = [r for r in failed if not hasattr(r, "gradspec")]
        return (yield)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.stats["failed"] += self._hidden_reports
        if not terminalreporter.stats["failed"]:
            del terminalreporter.stats["failed"]
        if not self.report.entries:
            return
        width = max(terminalreporter._tw.fullwidth, 100)
        console = Console(file=terminalreporter._tw._file, width=width)
        if self.report.failures:
            terminalreporter.section("what disagrees")
            report.show_failures(self.report, console)
        terminalreporter.section("gradspec" + (", interrupted" if self.was_interrupted else ""))
        report.show_matrix(self.report, console, **self._get_untested())
        report.show_stale_deviations(self.stale_deviations, console)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt("terminated")
