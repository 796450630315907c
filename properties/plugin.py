"""The pytest plugin: what the properties are tried on, where, and what is shown at the end.

    pytest properties/ --backend torch --op layer_norm --dtype float32

Loaded with `-p gradspec.properties.plugin`. A property is a test with one of three arguments: `subject`, each op of each
backend; `spec`, each op of the spec itself; `engine`, each backend as a whole.
"""

# ruff: noqa: E402 - the thread counts must be set before NumPy and torch are imported
import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # on arrays this small further threads only wait for each other

import pytest

from gradspec.properties.running import options
from gradspec.properties.running.collector import Collector
from gradspec.properties.running.run import Run

options.register_profiles()
pytest_addoption = options.add_options


@pytest.hookimpl(tryfirst=True)  # before Hypothesis looks for the profile
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "property(when): what the property speaks of, a predicate; everything if absent"
    )
    options.check_options(config)
    run = Run(config)
    config.pluginmanager.register(run, "gradspec-run")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collector(config, run.selection), "gradspec-collector")
