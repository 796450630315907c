"""The options of gradspec's own tests, and which of the slow ones a run tries."""

import pytest

from tests.helpers.rotation import ROOT, Rotation, turn_of


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--everything", action="store_true", help="try all tests that take turns, not a fifth of them"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rotating: takes long, and is tried at one commit in five")
    config.pluginmanager.register(
        Rotation(None if config.getoption("everything") else turn_of(ROOT)), "rotation"
    )
