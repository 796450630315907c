"""What failed is tried again in the next run, wherever its backend runs, unless the user gives a seed."""

from pathlib import Path

import pytest

from tests.helpers.pytest_runs import copy_properties, run_properties

SOURCE = """
from gradspec.backends import load

right = load("numpy")
backend = right.with_ops(name="mine", tanh=lambda x: right.ops["tanh"](x) + 1)
"""


@pytest.mark.rotating
@pytest.mark.parametrize("isolation", [(), ("--no-isolate",)])
@pytest.mark.parametrize("seed", [None, 1])
def test_what_failed_is_kept_unless_there_is_a_seed(
    isolation: tuple[str, ...], seed: int | None, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(SOURCE, encoding="utf-8")
    properties = copy_properties(tmp_path, "test_value.py")
    arguments = "--backend=mine:backend", "--op=tanh", *isolation
    run = run_properties(tmp_path, *arguments, properties=properties, seed=seed)
    assert "wrong  tanh on mine (cpu) breaks a law: value agrees" in run.output
    kept = [*tmp_path.glob(".hypothesis/examples/*/*")]
    assert bool(kept) == (seed is None)
