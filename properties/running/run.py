"""The run, where the properties are tried: under xdist in each of its workers."""

import gc
import inspect
import os
from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import is_hypothesis_test

from gradspec.backends.loading import BUILT_IN
from gradspec.properties.drawing.hypothesis_internals import drop_report, get_global_seed
from gradspec.properties.running import options, report
from gradspec.properties.running.budget import Budget
from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.isolation import IsolatedProcess, Task, UntestedPropertyError
from gradspec.properties.running.matrix import Entry, to_sentence
from gradspec.properties.running.perform import extract_settings, perform_property
from gradspec.properties.running.selection import Selection, get_target, split_shard
from gradspec.properties.running.targets import BackendUnderTest

INFORMATIVE_CACHE_KEY = "gradspec/informative"  # what pytest's cache remembers for --budget


class Run:
    """Tries each property on what the command line selects, and hands on with its report what came of it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.selection = Selection(config)
        self.isolated_process = IsolatedProcess(options.get_time_limit(config))
        self.budget: Budget | None = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        self.selection.parametrize(metafunc)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        items[:] = self.selection.filter_items(items)
        before = [*items]
        yield
        self.selection.note_whole_run(before, items)
        items[:], others = split_shard(items, *options.parse_shard(self.config))
        self.config.hook.pytest_deselected(items=others)
        if seconds := options.parse_budget(self.config):
            cache = getattr(self.config, "cache", None)  # absent under -p no:cacheprovider
            seen = cache.get(INFORMATIVE_CACHE_KEY, {}) if cache else {}
            workers = getattr(self.config, "workerinput", {}).get("workercount", 1)
            self.budget = Budget(seconds, [x.nodeid for x in items if get_target(x)], seen, workers)

    def pytest_collection_finish(self) -> None:
        gc.freeze()  # what the libraries themselves consist of is no garbage: to go through it took a twentieth of the time

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Try a property, in a process of its own if its backend is not trusted; a deviation that is declared is expected."""
        tried = get_target(pyfuncitem)
        if tried is None or not is_hypothesis_test(pyfuncitem.obj):
            return None
        known = tried.find_deviation(pyfuncitem.originalname)
        try:
            self._perform_item(pyfuncitem, tried)
        except LawViolation as broken:
            if not (known and known.excuses(broken.case.dtype)):
                raise
        else:
            return True
        pytest.xfail(known.why)  # here, where pytest finds no traceback of the failure to write out

    def _perform_item(self, item: pytest.Function, target: BackendUnderTest) -> None:
        arguments = {
            name: item.funcargs[name]
            for name in inspect.signature(item.obj).parameters
            if name in item.funcargs
        }
        seconds = self.budget.allot_seconds(item.nodeid) if self.budget else None
        if not self._is_isolated(target):
            perform_property(item.obj, arguments, target, item.nodeid, seconds)
            return
        task = Task(
            path=item.path,
            module=item.function.__module__,
            function=item.originalname,
            key=item.nodeid,
            arguments=arguments,
            profile=extract_settings(item.obj),
            seed=get_global_seed(),
            seconds=seconds,
        )
        self.isolated_process.perform(task, target)

    def _is_isolated(self, target: BackendUnderTest) -> bool:
        asked: bool | None = self.config.getoption("isolate")
        trusted = target.source in BUILT_IN or target.backend.name == "spec"
        return not trusted if asked is None else asked

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Hand on what was found with the report; in place of a traceback show the failure itself, and where it is saved."""
        drop_report(item)
        made = yield
        tried = get_target(item)
        if tried and made.when == "call":
            outcome = "known" if made.skipped and hasattr(made, "wasxfail") else made.outcome
            entry = Entry(item.originalname, tried.name, tried.backend.name, outcome, tried.tally)
            found: dict[str, Any] = {"entry": entry.as_json(), "whole": self.selection.is_whole_run}
            if made.failed and call.excinfo:
                found["failure"] = self._describe_failure(item, tried, call.excinfo.value, made)
            vars(made)["gradspec"] = found
        return made

    def _describe_failure(
        self,
        item: pytest.Function,
        target: BackendUnderTest,
        error: BaseException,
        test_report: pytest.TestReport,
    ) -> dict[str, Any]:
        title = f"{target.name} on {target.backend.name}"
        rule = to_sentence(item.originalname)
        if isinstance(error, LawViolation):
            part = item.callspec.id.removesuffix(f"{target!r}").strip("-")
            script = os.path.relpath(error.save(item.config.invocation_params.dir / "failures", part))
            test_report.longrepr = f"{error.as_text()}\n  reproduce: python {script}"
            shown = report.ReportedFailure(
                error.title,
                error.as_text(),
                script,
                error.signature,
                error.law_sentence,
                error.case.target_name,
            )
        else:
            if isinstance(error, UntestedPropertyError) or type(error) is AssertionError:
                test_report.longrepr = f"{title}: {rule}\n  {error}"
            text = f"{title}: {rule}\n  " + str(test_report.longrepr).split("\n", 1)[-1].strip()
            shown = report.ReportedFailure(title, text, "", (item.nodeid,), rule, target.name)
        return asdict(shown)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (output := getattr(session.config, "workeroutput", None)) is not None:  # under xdist
            output["gradspec"] = self.selection.summarize()

    def pytest_unconfigure(self) -> None:
        self.isolated_process.stop()
