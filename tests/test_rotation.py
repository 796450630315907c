"""The rotation of slow tests: what one commit leaves out another runs, and the run says what is left out."""

import subprocess
from pathlib import Path

import pytest

from tests.helpers.rotation import TURNS, Rotation, compute_turn

pytest_plugins = ["pytester"]

SUITE_SOURCE = """
import pytest

@pytest.mark.rotating
@pytest.mark.parametrize("i", range(23))
def test_slow(i): ...

def test_fast(): ...
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with 23 rotating tests and one that is not, without this project's own settings."""
    pytester.makepyfile(test_suite=SUITE_SOURCE)
    pytester.makeini("[pytest]\nmarkers = rotating")
    return pytester


def list_passed_tests(suite: pytest.Pytester, turn: int | None) -> list[str]:
    passed, _, _ = suite.inline_run("-p", "no:cacheprovider", plugins=[Rotation(turn)]).listoutcomes()
    return [report.nodeid.partition("::")[2] for report in passed]


def test_five_commits_in_a_row_try_everything_and_none_much_more_than_a_fifth(suite: pytest.Pytester) -> None:
    turns = [list_passed_tests(suite, turn) for turn in range(TURNS)]
    assert all("test_fast" in names and len(names) <= 1 + 23 // TURNS + 1 for names in turns)
    slow = sorted(name for names in turns for name in names if name != "test_fast")
    assert slow == sorted(f"test_slow[{i}]" for i in range(23))
    assert len(list_passed_tests(suite, None)) == 24


def test_a_group_takes_one_turn(suite: pytest.Pytester) -> None:
    """So what its tests share is made at one commit in five."""
    suite.makepyfile(test_suite=SUITE_SOURCE.replace("rotating", 'rotating("run")'))
    turns = [list_passed_tests(suite, turn) for turn in range(TURNS)]
    assert sorted(map(len, turns)) == [1, 1, 1, 1, 24]


def test_what_is_left_out_is_told(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess(plugins=[Rotation(2)])
    result.assert_outcomes(passed=6, deselected=18)
    result.stdout.fnmatch_lines("left to other commits (turn 2 of 5, *): 18 of test_suite.py; --everything *")


def test_the_turn_is_that_of_the_commit(tmp_path: Path) -> None:
    assert compute_turn(tmp_path) is None  # no repository: everything
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    turns = []
    for _ in range(TURNS + 1):
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "one"], cwd=tmp_path, check=True)
        turns.append(compute_turn(tmp_path))
    assert turns == [1, 2, 3, 4, 0, 1]
