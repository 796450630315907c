"""The options of gradspec's own tests, and the rotation of the slow ones."""

import pytest

from tests.helpers.rotation import ROOT, Rotation, compute_turn


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--everything", action="store_true", help="run all rotating tests, not a fifth of them")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "rotating(group): takes long, and runs at one commit in five, with others of its group"
    )
    config.addinivalue_line("markers", "xdist_group(name): runs in one process with others of its group")
    turn = None if config.getoption("everything") else compute_turn(ROOT)
    config.pluginmanager.register(Rotation(turn), "rotation")
