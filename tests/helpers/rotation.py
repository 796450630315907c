"""The rotation of slow tests: each commit runs a fifth of those marked `rotating`, five in a row run all.

`--everything` runs them all. Which fifth runs depends on the number of commits before this one, so that any
five consecutive commits run each test. Without a git repository, as in an unpacked archive, all of them run.
"""

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TURNS = 5


def compute_turn(checkout: Path) -> int | None:
    """Return whose turn it is, from 0 to TURNS - 1; None without a git repository.

    It is the number of commits up to the current one, modulo TURNS; those of merged branches do not count.
    """
    command = ["git", "rev-list", "--count", "--first-parent", "HEAD"]
    try:
        count = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None
    return int(count) % TURNS


def find_group(item: pytest.Item) -> str | None:
    """Return what a rotating test takes its turn with, a group or itself; None for other tests."""
    marker = item.get_closest_marker("rotating")
    return (marker.args[0] if marker.args else item.nodeid) if marker else None


class Rotation:
    """Leaves out the tests whose turn it is not, and says at the end how many of which file those were.

    Args:
        turn: Whose turn it is; None to run all tests.
    """

    def __init__(self, turn: int | None) -> None:
        self.turn = turn
        self.left_out_counts: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self.turn is None:
            return
        groups = sorted({group for item in items if (group := find_group(item))})
        other_turns = set(groups) - set(groups[self.turn :: TURNS])
        deselected = [item for item in items if find_group(item) in other_turns]
        self.left_out_counts.update(item.path.name for item in deselected)
        items[:] = [item for item in items if find_group(item) not in other_turns]
        config.hook.pytest_deselected(items=deselected)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (output := getattr(session.config, "workeroutput", None)) is not None:  # under xdist
            output["left out"] = dict(self.left_out_counts)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {})
        self.left_out_counts = Counter(output.get("left out", self.left_out_counts))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.left_out_counts:
            counts = ", ".join(f"{n} of {file}" for file, n in sorted(self.left_out_counts.items()))
            turn = f"turn {self.turn} of {TURNS}, by the number of commits" if self.turn is not None else ""
            terminalreporter.write_line(
                f"left to other commits ({turn}): {counts}; --everything runs them all"
            )
