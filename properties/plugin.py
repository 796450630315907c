"""The pytest plugin: it selects what the properties are tried on, tries them, and reports the results.

    pytest properties/ --backend torch --op layer_norm --dtype float32

It is loaded with `-p gradspec.properties.plugin`. A property is a test that takes one of three arguments:
`op_under_test`, each op of each backend; `spec_op`, each op of the spec itself; `backend_under_test`, each
backend as a whole.
"""

# ruff: noqa: E402 - the thread counts must be set before NumPy and torch are imported
import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # on such small arrays more threads only wait for each other

import pytest

from gradspec.properties.running import options, profiles
from gradspec.properties.running.backends_of_run import BackendsOfRun
from gradspec.properties.running.controller_plugin import ControllerPlugin
from gradspec.properties.running.worker_plugin import WorkerPlugin

profiles.register_profiles()
pytest_addoption = options.add_options


@pytest.hookimpl(tryfirst=True)  # before Hypothesis looks for the profile
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "property(when): whether the property applies to a target, as a predicate; always, if absent",
    )
    options.check_options(config)
    backends = BackendsOfRun(config)
    if config.getoption("backend"):  # else nothing is loaded yet: it takes a while, and may not be needed
        _ = backends.by_source
    run = WorkerPlugin(config, backends)
    config.pluginmanager.register(run, "gradspec-run")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(ControllerPlugin(config, run), "gradspec-collector")
