"""Tasks: one property to try on one op."""

from pathlib import Path
from typing import Any

from gradspec.backends import Backend
from gradspec.properties import test_value
from gradspec.properties.running.perform_property import extract_settings
from gradspec.properties.running.places import Task
from gradspec.properties.running.targets import OpUnderTest
from gradspec.reference import OPS


def make_value_task(op: str, backend: Backend, source: str, max_examples: int, **more: Any) -> Task:
    """Return the task to try "value agrees" on an op in float64, with seed 1."""
    target = OpUnderTest(name=op, op=OPS[op], backend=backend, source=source, dtypes=["float64"])
    test = test_value.test_value_agrees
    return Task(
        function=test,
        path=Path(test_value.__file__),
        module=test_value.__name__,
        key="key",
        arguments={"op_under_test": target},
        profile=extract_settings(test) | {"max_examples": max_examples, "database": None},
        seed=1,
        **more,
    )
