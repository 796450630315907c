"""The pytest plugin: it selects what the properties are tried on, tries them, and reports the results.

    pytest properties/ --backend torch --op layer_norm --dtype float32

It is loaded with `-p gradspec.properties.plugin`. A property is a test that takes one of four arguments:
`op_under_test`, each op of each backend; `spec_op`, each op of the spec itself; `backend_under_test`, each
backend as a whole, tried with programs; `adapter_under_test`, what converts arrays and differentiates.
"""

# ruff: noqa: E402 - the thread counts must be set before NumPy and torch are imported
import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # on such small arrays more threads only wait for each other

from collections.abc import Generator

import pytest

from gradspec.backends import Backend
from gradspec.properties.running import options, profiles
from gradspec.properties.running.backends_of_run import BackendsOfRun
from gradspec.properties.running.controller_plugin import ControllerPlugin
from gradspec.properties.running.list_laws import format_laws
from gradspec.properties.running.op_selection import check_offers, check_ops
from gradspec.properties.running.worker_plugin import WorkerPlugin

profiles.register_profiles()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser.getgroup("gradspec").addoption)


@pytest.hookimpl(wrapper=True)  # around what loads conftest.py, which may add options
def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> Generator[None]:
    """Name what is like an option that nobody knows; pytest alone says that it is unknown."""
    yield
    options.check_that_options_exist(parser, args)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Print the laws and be done, if that is what is asked for."""
    if not config.getoption("laws"):
        return None
    print(format_laws())
    return 0


@pytest.hookimpl(tryfirst=True)  # before Hypothesis looks for the profile
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "property(when, margin): when: whether the property applies to a target, as a predicate, always if "
        "absent; margin: whether it says how near its cases came to what is allowed",
    )
    options.check_options(config)
    options.make_own_modules_importable(config)
    backends = BackendsOfRun(config)
    is_backend_named = bool(config.getoption("backend"))
    if is_backend_named:  # else nothing is loaded yet: it takes a while, and may not be needed
        _ = backends.by_source  # which declares ops that `--op` may name
    check_ops(config, lambda: (b for b in backends.by_source.values() if isinstance(b, Backend)))
    if is_backend_named:
        check_offers(config, [b for b in backends.by_source.values() if isinstance(b, Backend)])
    run = WorkerPlugin(config, backends)
    config.pluginmanager.register(run, "gradspec-run")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(ControllerPlugin(config, run), "gradspec-collector")
