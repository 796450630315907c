"""Tests that take long take turns: of those marked `rotating` one commit tries a fifth, five in a row all of them.

`--everything` tries them all. A fifth is told by the number of commits before this one, so that any five commits one after the
other try each. Where git says nothing, as in an unpacked archive, all are tried.
"""

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TURNS = 5


def turn_of(checkout: Path) -> int | None:
    """Whose turn it is, from 0 to TURNS - 1: the commits before this one, not counting those of branches merged into it."""
    command = ["git", "rev-list", "--count", "--first-parent", "HEAD"]
    try:
        count = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None
    return int(count) % TURNS


class Rotation:
    """Leaves out the tests whose turn it is not, and says at the end how many of which file those were."""

    def __init__(self, turn: int | None) -> None:
        self.turn = turn
        self.left_out: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self.turn is None:
            return
        rotating = sorted(item.nodeid for item in items if item.get_closest_marker("rotating"))
        others = set(rotating) - set(rotating[self.turn :: TURNS])
        later = [item for item in items if item.nodeid in others]
        self.left_out.update(item.path.name for item in later)
        items[:] = [item for item in items if item.nodeid not in others]
        config.hook.pytest_deselected(items=later)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (output := getattr(session.config, "workeroutput", None)) is not None:  # under xdist
            output["left out"] = dict(self.left_out)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.left_out = Counter(getattr(node, "workeroutput", {}).get("left out", self.left_out))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.left_out:
            where = ", ".join(f"{n} of {file}" for file, n in sorted(self.left_out.items()))
            turn = f"turn {self.turn} of {TURNS}, by the number of commits" if self.turn is not None else ""
            terminalreporter.write_line(
                f"left to other commits ({turn}): {where}; --everything tries them all"
            )
