"""The pytest plugin: what the properties are tried on, where, and what is shown at the end.

    pytest properties/ --backend torch --op layer_norm --dtype float32

Loaded with `-p gradspec.properties.plugin`. A property is a test with one of three arguments: `subject`, each op of each
backend; `spec`, each op of the spec itself; `engine`, each backend as a whole.
"""

import pytest

from gradspec.properties import options
from gradspec.properties.collector import Collector
from gradspec.properties.run import Run

options.register_profiles()
pytest_addoption = options.add


@pytest.hookimpl(tryfirst=True)  # before Hypothesis looks for the profile
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "property(when): what the property speaks of, a predicate; everything if absent"
    )
    options.check(config)
    run = Run(config)
    config.pluginmanager.register(run, "gradspec-run")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collector(config, run.selection), "gradspec-collector")
