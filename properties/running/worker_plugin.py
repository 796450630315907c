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
from gradspec.properties.judging.severity import rank_severity
from gradspec.properties.running import options, report
from gradspec.properties.running.budget import Budget
from gradspec.properties.running.failure import LawViolation, format_command
from gradspec.properties.running.first_contact import FirstContacts
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
        self.first_contacts = FirstContacts(self._perform_adapter_item)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        self.selection.parametrize(metafunc)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        items[:] = self.selection.drop_items_without_target(items)
        before = [*items]
        yield
        self.selection.note_whole_run(before, items)
        self.first_contacts.sort(items)
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
        dtypes = self.first_contacts.list_dtypes_to_try(pyfuncitem, target)
        try:
            with target.restrict_dtypes(dtypes):
                self._perform_item(pyfuncitem, target)
        except LawViolation as violation:
            if not (known and known.excuses(violation.case.dtype)):
                raise self.first_contacts.explain(violation) from None
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
        self._perform(item, target, arguments, seconds)

    def _perform_adapter_item(self, item: pytest.Function, target: BackendUnderTest) -> None:
        """Try the property of an adapter on a target of its own, for no result but an exception."""
        (argument,) = (name for name, param in item.callspec.params.items() if param is get_target(item))
        self._perform(item, target, {argument: target}, None)

    def _perform(
        self,
        item: pytest.Function,
        target: BackendUnderTest,
        arguments: dict[str, Any],
        seconds: float | None,
    ) -> None:
        """Try a property with these arguments, among them the target, for so many seconds."""
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
            entry.severity = min(target.tally.violations, key=rank_severity, default="")
            result: dict[str, Any] = {"entry": entry.as_json(), "whole": self.selection.is_whole_run}
            if test_report.failed and call.excinfo:
                error = call.excinfo.value
                result["failures"] = self._save_and_describe_failures(item, target, error, test_report)
                entry.severity = result["failures"][0]["severity"]
                result["entry"] = entry.as_json()
            if not is_xfail:
                result["listed"] = [
                    asdict(self._save_violation(item, target, violation, severity))
                    for severity, violation in target.listed.items()
                ]
            if entry.severity:  # JUnit's properties of the test
                item.user_properties.append(("severity", entry.severity))
            vars(test_report)["gradspec"] = result
        return test_report

    def _save_violation(
        self, item: pytest.Function, target: BackendUnderTest, violation: LawViolation, name_suffix: str = ""
    ) -> report.FailureRecord:
        """Save a violation, and return it in plain values.

        Args:
            item: The property.
            target: What it was tried on.
            violation: The violation.
            name_suffix: What the names of its files end with, where the property has another.
        """
        parameters = item.callspec.id.removesuffix(f"{target!r}").strip("-")
        suffix = "-".join(filter(None, (parameters, name_suffix)))
        script = os.path.relpath(violation.save(item.config.invocation_params.dir / "failures", suffix))
        return report.FailureRecord(
            violation.title,
            violation.as_text(),
            script,
            violation.signature,
            violation.law_sentence,
            violation.case.target_name,
            violation.severity or "",
            target.backend.name,
            violation.judgement.loss,
            violation.judgement.reason.split("\n")[0],
        )

    def _save_and_describe_failures(
        self,
        item: pytest.Function,
        target: BackendUnderTest,
        error: BaseException,
        test_report: pytest.TestReport,
    ) -> list[dict[str, Any]]:
        """Save the violations, set what pytest prints of the failure, and return them in plain values."""
        title = f"{target.name} on {target.backend.name}"
        law_sentence = to_sentence(item.originalname)
        if isinstance(error, LawViolation):
            others = [self._save_violation(item, target, v, "-".join(_name_kind(v))) for v in error.others]
            failures = [self._save_violation(item, target, error), *others]
            test_report.longrepr = "\n".join(
                f"{f.text}\n  reproduce: {format_command(f.script)}" for f in failures
            )
            return list(map(asdict, failures))
        if isinstance(error, UntestedPropertyError) or type(error) is AssertionError:
            test_report.longrepr = f"{title}: {law_sentence}\n  {error}"
        text = f"{title}: {law_sentence}\n  " + str(test_report.longrepr).split("\n", 1)[-1].strip()
        reason = text.split("\n")[1].strip()
        record = report.FailureRecord(
            title, text, "", (item.nodeid,), law_sentence, target.name, "", reason=reason
        )
        return [asdict(record)]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (output := getattr(session.config, "workeroutput", None)) is not None:  # under xdist
            output["gradspec"] = self.selection.summarize()

    def pytest_unconfigure(self) -> None:
        self.isolated_process.stop()


def _name_kind(violation: LawViolation) -> list[str]:
    """Return the words for its kind that tell apart the files of a property's violations."""
    severity, raised = violation.kind
    return [severity or "", *(["raises"] if raised and severity != "raises" else [])]
