"""The collector of all reports: under xdist it lives in the process that started the workers."""

import signal
import threading
import warnings
from collections import Counter
from collections.abc import Generator
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings
from rich.console import Console

from gradspec.backends.backend import DeclaredDecline, Deviation
from gradspec.properties.running import options, report
from gradspec.properties.running.backends_of_run import EXPORT_KEY
from gradspec.properties.running.declined import find_stale_declines
from gradspec.properties.running.files import describe_unwritten, write_atomically
from gradspec.properties.running.junit import tell_unwritten_junit
from gradspec.properties.running.known import find_stale_deviations, find_unreachable_deviations
from gradspec.properties.running.profiles import is_thorough
from gradspec.properties.running.tally import PropertyResult
from gradspec.properties.running.worker_plugin import INFORMATIVE_CACHE_KEY, JUDGED_CACHE_KEY, WorkerPlugin


class ControllerPlugin:
    """Collects the results of the properties; shows and saves them at the end of the run, however it ends."""

    def __init__(self, config: pytest.Config, run: WorkerPlugin) -> None:
        self.config = config
        self.run = run
        self.report = report.RunResults()
        self.informative_counts: Counter[str] = Counter()
        self.judged_counts: Counter[str] = Counter()
        self.is_whole_run = True
        self.was_interrupted = False
        self._files: dict[str, str] = {}  # what has been written of failures, by path
        self._unwritten: list[str] = []  # what could not be written, a line each
        self._failing_lines: list[str] = []  # those of them that make the run fail
        self._untried_count = 0  # by the processes of pytest-xdist
        self._is_matrix_saved = False
        self._session: pytest.Session | None = None
        self._hidden_reports: list[Any] = []
        if threading.current_thread() is threading.main_thread():
            # SIGTERM acts like Ctrl-C: what has been found so far is reported.
            signal.signal(signal.SIGTERM, _interrupt)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session
        tell_unwritten_junit(self.config, self._tell_unwritten)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if result := getattr(report, "gradspec", None):
            self._add_result(report.nodeid, result)
        self._files |= getattr(report, "gradspec_files", {})
        if line := getattr(report, "gradspec_unwritten", ""):
            self._unwritten.append(line)

    def _add_result(self, nodeid: str, result: dict[str, Any]) -> None:
        entry = PropertyResult.from_json(result["entry"])
        self.report.entries.append(entry)
        self.informative_counts[nodeid] += entry.tally.informative
        self.judged_counts[nodeid] += entry.tally.judged
        self.is_whole_run &= result["whole"]
        self.report.failures += [report.FailureRecord(**failure) for failure in result.get("failures", ())]
        self.report.listed += [report.FailureRecord(**violation) for violation in result.get("listed", ())]

    @property
    def stale_deviations(self) -> list[str]:
        """Complaints about what is declared but does not show; of a quick run, what no run can come to."""
        is_whole = self.is_whole_run and not self.untried_count
        if self.was_interrupted or not is_whole:
            return []
        entries = self.report.entries
        known = {
            name: [Deviation(*entry) for entry in entries_of_backend]
            for name, entries_of_backend in self.selection_summary["known"].items()
        }
        unreachable = find_unreachable_deviations(entries, known, self.selection_summary["laws"])
        if not is_thorough(settings()):
            return unreachable
        declines = {
            name: [DeclaredDecline(*entry) for entry in entries_of_backend]
            for name, entries_of_backend in self.selection_summary["declines"].items()
        }
        return unreachable + find_stale_deviations(entries, known) + find_stale_declines(entries, declines)

    @cached_property
    def selection_summary(self) -> dict[str, Any]:
        """What was selected. A worker sends it as it ends, so this process need not import every library."""
        return self.run.selection.summarize()

    @property
    def untried_count(self) -> int:
        """How many properties the budget had no time for."""
        return self.run.untried_count + self._untried_count

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a process of pytest-xdist which backends have been loaded, or cannot be."""
        node.workerinput[EXPORT_KEY] = self.run.backends.export()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {})
        self._untried_count += output.get("gradspec_untried", 0)
        if summary := output.get("gradspec"):
            self.selection_summary = summary

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.report.entries:
            return
        self.was_interrupted = session.exitstatus == pytest.ExitCode.INTERRUPTED
        self.report.delete_duplicate_files()
        self._restore_files()
        has_complaint = self.stale_deviations or self.run.backends.failed_names
        if has_complaint and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._save_counts()

    def _restore_files(self) -> None:
        """Write again the scripts that are shown, where another run in this folder has deleted them."""
        shown = self.report.shown_scripts
        for path, text in self._files.items():
            if str(Path(path).with_suffix(".py")) in shown and not Path(path).exists():
                try:
                    write_atomically(Path(path), text)
                except OSError as error:
                    self._unwritten.append(describe_unwritten("failures/", error))

    def pytest_unconfigure(self) -> None:
        if self.report.entries:
            self._save_matrix()  # where nothing is shown

    def _save_matrix(self) -> None:
        """Save the results where `--matrix` says, once; the run fails if they cannot be written."""
        path = options.get_matrix_file(self.config)
        if path is None or self._is_matrix_saved:
            return
        self._is_matrix_saved = True
        try:
            self.report.save(
                path,
                interrupted=self.was_interrupted,
                gone=self.stale_deviations,
                untried=self.untried_count,
                **self._get_untested(),
            )
        except OSError as error:
            self._tell_unwritten(describe_unwritten(f"--matrix {self.config.getoption('matrix')}", error))

    def _tell_unwritten(self, line: str) -> None:
        """Tell at the end what the user asked for and could not be written; the run fails."""
        self._unwritten.append(line)
        self._failing_lines.append(line)
        if self._session and self._session.exitstatus == pytest.ExitCode.OK:
            self._session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _get_untested(self) -> dict[str, Any]:
        return {name: self.selection_summary[name] for name in ("unavailable", "not_offered", "not_asked")}

    def _save_counts(self) -> None:
        """Save in pytest's cache what --budget needs to know in the next run."""
        cache = getattr(self.config, "cache", None)
        if cache and options.parse_budget(self.config):
            counts = {INFORMATIVE_CACHE_KEY: self.informative_counts, JUDGED_CACHE_KEY: self.judged_counts}
            with warnings.catch_warnings(action="ignore"):  # pytest's own, if it cannot be written
                for key, new in counts.items():
                    cache.set(key, dict(Counter(cache.get(key, {})) + new))

    @pytest.hookimpl(specname="pytest_terminal_summary", wrapper=True, tryfirst=True)
    def pytest_hide_failures(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        """Hide failures of properties from pytest's own section: gradspec's section shows them, each once."""
        failed = terminalreporter.stats.get("failed", [])
        self._hidden_reports = [r for r in failed if hasattr(r, "gradspec")]
        terminalreporter.stats["failed"] = [r for r in failed if not hasattr(r, "gradspec")]
        try:
            return (yield)
        finally:
            # So that the last line has them: without it a run that fails would end with "15 passed".
            if errors := [*self.stale_deviations, *self.run.backends.failed_names, *self._failing_lines]:
                terminalreporter.stats.setdefault("error", []).extend(errors)

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
        failed_names = self.run.backends.failed_names
        report.show_matrix(self.report, console, **self._get_untested(), failed_names=failed_names)
        report.show_errors(self.stale_deviations, console)
        if self.untried_count:
            report.show_untried(self.untried_count, console)
        self._save_matrix()
        report.show_errors(dict.fromkeys(self._unwritten), console)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt("terminated")
