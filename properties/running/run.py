"""The run, where the properties are tried: under xdist in each of its workers."""

import gc
import inspect
import os
from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import core, is_hypothesis_test

from gradspec.backends.loading import BUILT_IN
from gradspec.properties.running import options, report
from gradspec.properties.running.budget import Budget
from gradspec.properties.running.containment import Keeper, Task, Trouble
from gradspec.properties.running.failure import Disagreement
from gradspec.properties.running.matrix import Entry, sentence
from gradspec.properties.running.perform import perform, profile_of
from gradspec.properties.running.selection import Selection, shard_of, tried_by
from gradspec.properties.running.subject import Engine

SEEN = "gradspec/informative"  # what pytest's cache remembers for --budget


class Run:
    """Tries each property on what the command line selects, and hands on with its report what came of it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.selection = Selection(config)
        self.keeper = Keeper(options.time_limit(config))
        self.budget: Budget | None = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        self.selection.parametrize(metafunc)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        items[:] = self.selection.keep(items)
        before = [*items]
        yield
        self.selection.look(before, items)
        items[:], others = shard_of(items, *options.shard(self.config))
        self.config.hook.pytest_deselected(items=others)
        if seconds := options.budget(self.config):
            cache = getattr(self.config, "cache", None)  # absent under -p no:cacheprovider
            seen = cache.get(SEEN, {}) if cache else {}
            workers = getattr(self.config, "workerinput", {}).get("workercount", 1)
            self.budget = Budget(seconds, [x.nodeid for x in items if tried_by(x)], seen, workers)

    def pytest_collection_finish(self) -> None:
        gc.freeze()  # what the libraries themselves consist of is no garbage: to go through it took a twentieth of the time

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Try a property, in a process of its own if its backend is not trusted; a deviation that is declared is expected."""
        tried = tried_by(pyfuncitem)
        if tried is None or not is_hypothesis_test(pyfuncitem.obj):
            return None
        known = tried.deviation(pyfuncitem.originalname)
        try:
            self._try(pyfuncitem, tried)
        except Disagreement as broken:
            if not (known and known.excuses(broken.case.dtype)):
                raise
        else:
            return True
        pytest.xfail(known.why)  # here, where pytest finds no traceback of the failure to write out

    def _try(self, item: pytest.Function, tried: Engine) -> None:
        arguments = {
            name: item.funcargs[name]
            for name in inspect.signature(item.obj).parameters
            if name in item.funcargs
        }
        seconds = self.budget.share(item.nodeid) if self.budget else None
        if not self._isolated(tried):
            perform(item.obj, arguments, tried, item.nodeid, seconds)
            return
        task = Task(
            path=item.path,
            module=item.function.__module__,
            function=item.originalname,
            key=item.nodeid,
            arguments=arguments,
            profile=profile_of(item.obj),
            seed=core.global_force_seed,
            seconds=seconds,
        )
        self.keeper.perform(task, tried)

    def _isolated(self, tried: Engine) -> bool:
        asked: bool | None = self.config.getoption("isolate")
        trusted = tried.source in BUILT_IN or tried.backend.name == "spec"
        return not trusted if asked is None else asked

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Hand on what was found with the report; in place of a traceback show the failure itself, and where it is saved."""
        vars(item).pop("hypothesis_report_information", None)
        made = yield
        tried = tried_by(item)
        if tried and made.when == "call":
            outcome = "known" if made.skipped and hasattr(made, "wasxfail") else made.outcome
            entry = Entry(item.originalname, tried.name, tried.backend.name, outcome, tried.tally)
            found: dict[str, Any] = {"entry": entry.as_json(), "whole": self.selection.whole}
            if made.failed and call.excinfo:
                found["failure"] = self._failure(item, tried, call.excinfo.value, made)
            vars(made)["gradspec"] = found
        return made

    def _failure(
        self, item: pytest.Function, tried: Engine, error: BaseException, made: pytest.TestReport
    ) -> dict[str, Any]:
        title = f"{tried.name} on {tried.backend.name}"
        rule = sentence(item.originalname)
        if isinstance(error, Disagreement):
            part = item.callspec.id.removesuffix(f"{tried!r}").strip("-")
            script = os.path.relpath(error.save(item.config.invocation_params.dir / "failures", part))
            made.longrepr = f"{error.text()}\n  reproduce: python {script}"
            shown = report.Failure(
                error.title, error.text(), script, error.signature, error.rule, error.case.subject
            )
        else:
            if isinstance(error, Trouble) or type(error) is AssertionError:
                made.longrepr = f"{title}: {rule}\n  {error}"
            text = f"{title}: {rule}\n  " + str(made.longrepr).split("\n", 1)[-1].strip()
            shown = report.Failure(title, text, "", (item.nodeid,), rule, tried.name)
        return asdict(shown)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (output := getattr(session.config, "workeroutput", None)) is not None:  # under xdist
            output["gradspec"] = self.selection.told()

    def pytest_unconfigure(self) -> None:
        self.keeper.stop()
