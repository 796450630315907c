"""The hooks of pytest that try the properties: under xdist in each worker."""

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
from gradspec.properties.running.perform_property import extract_settings, perform_property
from gradspec.properties.running.selection import Selection, get_target, split_shard
from gradspec.properties.running.tally import PropertyResult, to_sentence
from gradspec.properties.running.targets import BackendUnderTest

INFORMATIVE_CACHE_KEY = "gradspec/informative"  # where pytest's cache holds what --budget needs to know


class WorkerPlugin:
    """Tries each property on what the command line selects, and attaches the result to pytest's report."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.selection = Selection(config)
        self.isolated_process = IsolatedProcess(options.get_time_limit(config))
        self.budget: Budget | None = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        self.selection.parametrize(metafunc)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        items[:] = self.selection.drop_items_without_target(items)
        before = [*items]
        yield
        self.selection.note_whole_run(before, items)
        items[:], others = split_shard(items, *options.parse_shard(self.config))
        self.config.hook.pytest_deselected(items=others)
        if seconds := options.parse_budget(self.config):
            cache = getattr(self.config, "cache", None)  # absent under -p no:cacheprovider
            informative_cases = cache.get(INFORMATIVE_CACHE_KEY, {}) if cache else {}
            workers = getattr(self.config, "workerinput", {}).get("workercount", 1)
            nodeids = [item.nodeid for item in items if get_target(item)]
            self.budget = Budget(seconds, nodeids, informative_cases, workers)

    def pytest_collection_finish(self) -> None:
        # The objects of the libraries are no garbage: to go through them took a twentieth of the time.
        gc.freeze()

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Try a property, in a process of its own if its backend is not trusted.

        A failure that the backend declares, in `known`, becomes an xfail; one in a dtype it does not declare
        stays one.
        """
        target = get_target(pyfuncitem)
        if target is None or not is_hypothesis_test(pyfuncitem.obj):
            return None
        known = target.find_deviation(pyfuncitem.originalname)
        try:
            self._perform_item(pyfuncitem, target)
        except LawViolation as violation:
            if not (known and known.excuses(violation.case.dtype)):
                raise
        else:
            return True
        # Outside of the handler, so that pytest finds no traceback of the failure to print.
        pytest.xfail(known.why)

    def _perform_item(self, item: pytest.Function, target: BackendUnderTest) -> None:
        arguments = {
            name: item.funcargs[name]
            for name in inspect.signature(item.obj).parameters
            if name in item.funcargs
        }
        seconds = self.budget.allot_seconds(item.nodeid) if self.budget else None
        # Under CI the examples depend on this key: it names no folder, unlike the node id, which depends on
        # where pytest is started and, under xdist, on how items are distributed.
        key = f"{item.path.name}::{item.function.__qualname__}[{item.callspec.id}]"
        if not self._is_isolated(target):
            perform_property(item.obj, arguments, target, key, seconds)
            return
        task = Task(
            path=item.path,
            module=item.function.__module__,
            function=item.originalname,
            key=key,
            arguments=arguments,
            profile=extract_settings(item.obj),
            seed=get_global_seed(),
            seconds=seconds,
        )
        self.isolated_process.perform(task, target)

    def _is_isolated(self, target: BackendUnderTest) -> bool:
        option: bool | None = self.config.getoption("isolate")
        is_trusted = target.source in BUILT_IN or target.backend.name == "spec"
        return not is_trusted if option is None else option

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the result to the report, which shows the failure and its script in place of a traceback."""
        drop_report(item)
        test_report = yield
        target = get_target(item)
        if target and test_report.when == "call":
            is_xfail = test_report.skipped and hasattr(test_report, "wasxfail")
            outcome: str = "known" if is_xfail else test_report.outcome
            outcome = "declined" if outcome == "passed" and target.tally.is_not_offered else outcome
            entry = PropertyResult(item.originalname, target.name, target.backend.name, outcome, target.tally)
            result: dict[str, Any] = {"entry": entry.as_json(), "whole": self.selection.is_whole_run}
            if test_report.failed and call.excinfo:
                result["failure"] = self._save_and_describe_failure(
                    item, target, call.excinfo.value, test_report
                )
            vars(test_report)["gradspec"] = result
        return test_report

    def _save_and_describe_failure(
        self,
        item: pytest.Function,
        target: BackendUnderTest,
        error: BaseException,
        test_report: pytest.TestReport,
    ) -> dict[str, Any]:
        """Save a violation, set what pytest prints of the failure, and return it in plain values."""
        title = f"{target.name} on {target.backend.name}"
        law_sentence = to_sentence(item.originalname)
        if isinstance(error, LawViolation):
            name_suffix = item.callspec.id.removesuffix(f"{target!r}").strip("-")
            script = os.path.relpath(error.save(item.config.invocation_params.dir / "failures", name_suffix))
            test_report.longrepr = f"{error.as_text()}\n  reproduce: python {script}"
            failure = report.FailureRecord(
                error.title,
                error.as_text(),
                script,
                error.signature,
                error.law_sentence,
                error.case.target_name,
            )
        else:
            if isinstance(error, UntestedPropertyError) or type(error) is AssertionError:
                test_report.longrepr = f"{title}: {law_sentence}\n  {error}"
            text = f"{title}: {law_sentence}\n  " + str(test_report.longrepr).split("\n", 1)[-1].strip()
            failure = report.FailureRecord(title, text, "", (item.nodeid,), law_sentence, target.name)
        return asdict(failure)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (output := getattr(session.config, "workeroutput", None)) is not None:  # under xdist
            output["gradspec"] = self.selection.summarize()

    def pytest_unconfigure(self) -> None:
        self.isolated_process.stop()
