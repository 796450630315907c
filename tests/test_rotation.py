"""Tests that take long take turns: what one commit leaves out another tries, and what is left out is told."""

import subprocess
from pathlib import Path

import pytest

from tests.helpers.rotation import TURNS, Rotation, turn_of

pytest_plugins = ["pytester"]

SLOW = """
import pytest

@pytest.mark.rotating
@pytest.mark.parametrize("i", range(23))
def test_slow(i): ...

def test_fast(): ...
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with 23 tests that take turns and one that does not, and without this project's own settings."""
    pytester.makepyfile(test_suite=SLOW)
    pytester.makeini("[pytest]\nmarkers = rotating")
    return pytester


def names_tried(suite: pytest.Pytester, turn: int | None) -> list[str]:
    passed, _, _ = suite.inline_run("-p", "no:cacheprovider", plugins=[Rotation(turn)]).listoutcomes()
    return [report.nodeid.partition("::")[2] for report in passed]


def test_five_commits_in_a_row_try_everything_and_none_much_more_than_a_fifth(suite: pytest.Pytester) -> None:
    tried = [names_tried(suite, turn) for turn in range(TURNS)]
    assert all("test_fast" in names and len(names) <= 1 + 23 // TURNS + 1 for names in tried)
    assert sorted(name for names in tried for name in names if name != "test_fast") == sorted(
        f"test_slow[{i}]" for i in range(23)
    )
    assert len(names_tried(suite, None)) == 24


def test_what_is_left_out_is_told(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess(plugins=[Rotation(2)])
    result.assert_outcomes(passed=6, deselected=18)
    result.stdout.fnmatch_lines("left to other commits (turn 2 of 5, *): 18 of test_suite.py; --everything *")


def test_the_turn_is_that_of_the_commit(tmp_path: Path) -> None:
    assert turn_of(tmp_path) is None  # no repository: everything
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    turns = []
    for _ in range(TURNS + 1):
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "one"], cwd=tmp_path, check=True)
        turns.append(turn_of(tmp_path))
    assert turns == [1, 2, 3, 4, 0, 1]
