"""The hooks of pytest that try the properties: under xdist in each worker."""

import gc
import inspect
import os
from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import is_hypothesis_test

from gradspec.properties.drawing.hypothesis_internals import drop_report, get_global_seed
from gradspec.properties.judging.error_descriptions import make_printable
from gradspec.properties.running import options, report
from gradspec.properties.running.backends_of_run import BackendsOfRun
from gradspec.properties.running.budget import Budget
from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.files import describe_unwritten
from gradspec.properties.running.perform_property import extract_settings
from gradspec.properties.running.places import Task
from gradspec.properties.running.selection import Selection, get_target, split_shard
from gradspec.properties.running.tally import PropertyResult, to_sentence
from gradspec.properties.running.targets import BackendUnderTest

INFORMATIVE_CACHE_KEY = "gradspec/informative"  # where pytest's cache holds what --budget needs to know
JUDGED_CACHE_KEY = "gradspec/judged"


class UntestedPropertyError(Exception):
    """A property could not be tested; the message says why."""


class WorkerPlugin:
    """Tries each property on what the command line selects, and attaches the result to pytest's report."""

    def __init__(self, config: pytest.Config, backends: BackendsOfRun) -> None:
        self.config = config
        self.backends = backends
        self.selection = Selection(config, backends)
        self.budget: Budget | None = None
        self.untried_count = 0  # of properties that the budget had no time for

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
            informative_cases, judged_cases = (
                cache.get(key, {}) if cache else {} for key in (INFORMATIVE_CACHE_KEY, JUDGED_CACHE_KEY)
            )
            workers = getattr(self.config, "workerinput", {}).get("workercount", 1)
            items.sort(key=lambda item: judged_cases.get(item.nodeid, 0) if get_target(item) else -1)
            nodeids = [item.nodeid for item in items if get_target(item)]
            self.budget = Budget(seconds, nodeids, informative_cases, workers)

    def pytest_collection_finish(self) -> None:
        # The objects of the libraries are no garbage: to go through them took a twentieth of the time.
        gc.freeze()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Leave out a property that the budget has no time for, at no cost."""
        if self.budget is None or self.budget.seconds_left or get_target(item) is None:
            return None
        self.untried_count += 1
        self.selection.is_whole_run = False
        item.session._setupstate.teardown_exact(nextitem)  # what the item before has left for this one
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Try a property where its backend is tried.

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
        pytest.xfail(make_printable(known.why))

    def _perform_item(self, item: pytest.Function, target: BackendUnderTest) -> None:
        arguments = {
            name: item.funcargs[name]
            for name in inspect.signature(item.obj).parameters
            if name in item.funcargs
        }
        place = self.backends.find_place(target)
        place.start()  # before the budget begins
        task = Task(
            function=item.obj,
            path=item.path,
            module=item.function.__module__,
            # Under CI the examples depend on this key: it names no folder, unlike the node id, which depends
            # on where pytest is started and, under xdist, on how items are distributed.
            key=f"{item.path.name}::{item.function.__qualname__}[{item.callspec.id}]",
            arguments=arguments,
            profile=extract_settings(item.obj),
            seed=get_global_seed(),
            seconds=self.budget.allot_seconds(item.nodeid) if self.budget else None,
            max_seconds=self.budget.seconds_left if self.budget else float("inf"),
        )
        outcome = place.perform(task)
        target.tally = outcome.tally
        if not outcome.is_complete:
            self.selection.is_whole_run = False
        if outcome.failure:
            raise outcome.failure
        if outcome.error:
            raise UntestedPropertyError(outcome.error)

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
            outcome = "known" if is_xfail else test_report.outcome
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
        title = make_printable(f"{target.name} on {target.backend.name}")
        law_sentence = to_sentence(item.originalname)
        if isinstance(error, LawViolation):
            script, reproduce = self._save_violation(item, error, test_report)
            test_report.longrepr = error.as_text() + reproduce
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

    def _save_violation(
        self, item: pytest.Function, violation: LawViolation, test_report: pytest.TestReport
    ) -> tuple[str, str]:
        """Save a violation; return the path of its script and what is said of it, "" if it cannot be."""
        name_suffix = item.callspec.id.removesuffix(f"{get_target(item)!r}").strip("-")
        folder = item.config.invocation_params.dir / "failures"
        try:
            script = os.path.relpath(violation.save(folder, name_suffix))
        except OSError as error:
            vars(test_report)["gradspec_unwritten"] = describe_unwritten("failures/", error)
            return "", ""
        files = violation.format_files(folder, name_suffix)
        vars(test_report)["gradspec_files"] = {os.path.relpath(path): text for path, text in files.items()}
        return script, f"\n  reproduce: python {script}"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (output := getattr(session.config, "workeroutput", None)) is not None:  # under xdist
            output["gradspec"] = self.selection.summarize()
            output["gradspec_untried"] = self.untried_count

    def pytest_unconfigure(self) -> None:
        self.backends.stop()
