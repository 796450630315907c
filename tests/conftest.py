"""The options of gradspec's own tests, the rotation of the slow ones, and what ends with a test."""

from collections.abc import Iterator

import pytest

from gradspec.reference import OPS
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


@pytest.fixture
def restored_registry() -> Iterator[None]:
    """Restore OPS after a test, so that no op it declares remains."""
    before = dict(OPS)
    yield
    OPS.clear()
    OPS.update(before)
