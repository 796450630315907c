"""The hooks of pytest that try the properties: under xdist in each worker."""

import gc
import inspect
import os
import random
from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import is_hypothesis_test

from gradspec.properties.drawing.hypothesis_internals import drop_report, get_global_seed
from gradspec.properties.judging.error_descriptions import make_printable
from gradspec.properties.judging.severity import rank_severity
from gradspec.properties.running import options, report
from gradspec.properties.running.backends_of_run import BackendsOfRun
from gradspec.properties.running.budget import Budget
from gradspec.properties.running.failure import LawViolation, format_command
from gradspec.properties.running.files import describe_unwritten
from gradspec.properties.running.first_contact import FirstContacts
from gradspec.properties.running.perform_property import derive_seed, extract_settings
from gradspec.properties.running.places import Task, UntestedPropertyError
from gradspec.properties.running.selection import Selection, get_target, split_shard
from gradspec.properties.running.tally import PropertyResult, to_sentence
from gradspec.properties.running.targets import BackendUnderTest
from gradspec.properties.running.trials import draw_enough_examples, explain_trial, sort_trials_first

INFORMATIVE_CACHE_KEY = "gradspec/informative"  # where pytest's cache holds what --budget needs to know
JUDGED_CACHE_KEY = "gradspec/judged"


class WorkerPlugin:
    """Tries each property on what the command line selects, and attaches the result to pytest's report."""

    def __init__(self, config: pytest.Config, backends: BackendsOfRun) -> None:
        self.config = config
        self.backends = backends
        self.selection = Selection(config, backends)
        self.budget: Budget | None = None
        self.first_contacts = FirstContacts(self._perform_adapter_item)
        workerinput = getattr(config, "workerinput", {})
        self._seed_of_run = workerinput.get("testrunuid") or random.getrandbits(64)
        self.untried_count = 0  # of properties that the budget had no time for
        self._unfinished: set[str] = set()  # the node ids of those that it had too little time for

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        self.selection.parametrize(metafunc)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        items[:] = self.selection.drop_items_without_target(items)
        before = [*items]
        yield
        self.selection.note_whole_run(before, items)
        seconds = options.parse_budget(self.config)
        cache = getattr(self.config, "cache", None)  # absent under -p no:cacheprovider
        informative_cases, judged_cases = (
            cache.get(key, {}) if cache else {} for key in (INFORMATIVE_CACHE_KEY, JUDGED_CACHE_KEY)
        )
        if seconds:
            items.sort(key=lambda item: judged_cases.get(item.nodeid, 0) if get_target(item) else -1)
        sort_trials_first(items)
        self.first_contacts.sort(items)  # adapters come first, whatever else does
        items[:], others = split_shard(items, *options.parse_shard(self.config))
        self.config.hook.pytest_deselected(items=others)
        if seconds:
            workers = getattr(self.config, "workerinput", {}).get("workercount", 1)
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
        self.backends.find_place(target).start()  # before the budget begins
        dtypes = self.first_contacts.list_dtypes_to_try(pyfuncitem, target)
        try:
            with target.restrict_dtypes(dtypes):
                self._perform_item(pyfuncitem, target)
        except LawViolation as violation:
            known = target.find_deviation(pyfuncitem.originalname, violation.case.dtype)
            if known is None:
                raise self.first_contacts.explain(violation) from None
            target.tally.note_deviation(known.declaration, shows=True)
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
        profile = extract_settings(item.obj)
        task = Task(
            function=item.obj,
            path=item.path,
            module=item.function.__module__,
            # Under CI the examples depend on this key: it names no folder, unlike the node id, which depends
            # on where pytest is started and, under xdist, on how items are distributed.
            key=f"{item.path.name}::{item.function.__qualname__}[{item.callspec.id}]",
            arguments=arguments,
            profile=draw_enough_examples(target, profile),
            replays=get_global_seed() is None,
            seed=self._derive_seed(item, target, profile["derandomize"]),
            seconds=seconds,
            max_seconds=self.budget.seconds_left if self.budget else float("inf"),
        )
        outcome = self.backends.find_place(target).perform(task)
        target.tally, target.listed = outcome.tally, {**outcome.listed}
        if not outcome.is_complete:
            self._unfinished.add(item.nodeid)
            self.selection.is_whole_run = False
        if outcome.failure:
            raise outcome.failure
        if outcome.error:
            raise UntestedPropertyError(outcome.error)

    def _derive_seed(self, item: pytest.Function, target: BackendUnderTest, derandomize: bool) -> int | None:
        """Return the seed of a property on an op; none under CI, where each test has one of its own."""
        seed = get_global_seed()
        if seed is None:
            if derandomize:
                return None
            seed = self._seed_of_run
        return derive_seed(target.name, item.originalname, seed)

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
            if outcome == "passed" and target.tally.is_not_offered:
                outcome = "declined"
            elif outcome == "passed" and not target.tally.judged:
                outcome = "skipped" if item.nodeid in self._unfinished else "not asked"
            entry = PropertyResult(item.originalname, target.name, target.backend.name, outcome, target.tally)
            entry.severity = min(target.tally.violations, key=rank_severity, default="")
            result: dict[str, Any] = {"whole": self.selection.is_whole_run}
            if test_report.failed and call.excinfo:
                error = call.excinfo.value
                result["failures"] = self._save_and_describe_failures(item, target, error, test_report)
                entry.severity = result["failures"][0]["severity"]
            if not is_xfail:
                result["listed"] = [
                    asdict(self._save_violation(item, target, violation, test_report, severity))
                    for severity, violation in target.listed.items()
                ]
            if entry.severity:  # JUnit's properties of the test
                item.user_properties.append(("severity", entry.severity))
            vars(test_report)["gradspec"] = {**result, "entry": entry.as_json()}
        return test_report

    def _save_violation(
        self,
        item: pytest.Function,
        target: BackendUnderTest,
        violation: LawViolation,
        test_report: pytest.TestReport,
        name_suffix: str = "",
    ) -> report.FailureRecord:
        """Save a violation, and return it in plain values, without a script if it cannot be saved.

        Args:
            item: The property.
            target: What it was tried on.
            violation: The violation.
            test_report: What is told to the controlling process: the files, or why they are not there.
            name_suffix: What the names of its files end with, where the property has another.
        """
        violation = explain_trial(violation, target)
        parameters = item.callspec.id.removesuffix(f"{target!r}").strip("-")
        suffix = "-".join(filter(None, (parameters, name_suffix)))
        folder, script = item.config.invocation_params.dir / "failures", ""
        try:
            script = os.path.relpath(violation.save(folder, suffix))
        except OSError as error:
            vars(test_report)["gradspec_unwritten"] = describe_unwritten("failures/", error)
        else:
            files = vars(test_report).setdefault("gradspec_files", {})
            texts = violation.format_files(folder, suffix).items()
            files |= {os.path.relpath(path): text for path, text in texts}
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
        title = make_printable(f"{target.name} on {target.backend.name}")
        law_sentence = to_sentence(item.originalname)
        if isinstance(error, LawViolation):
            failures = [
                self._save_violation(item, target, violation, test_report, "-".join(kind))
                for violation, kind in [(error, []), *((v, _name_kind(v)) for v in error.others)]
            ]
            test_report.longrepr = "\n".join(map(_format_failure, failures))
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
            output["gradspec_untried"] = self.untried_count

    def pytest_unconfigure(self) -> None:
        self.backends.stop()


def _format_failure(failure: report.FailureRecord) -> str:
    """Return what pytest prints of a failure: no script where it could not be written."""
    return failure.text + (f"\n  reproduce: {format_command(failure.script)}" if failure.script else "")


def _name_kind(violation: LawViolation) -> list[str]:
    """Return the words for its kind that tell apart the files of a property's violations."""
    severity, raised = violation.kind
    return [severity or "", *(["raises"] if raised and severity != "raises" else [])]
