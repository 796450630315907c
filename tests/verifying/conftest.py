"""Each test runs in a folder of its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures and Hypothesis' examples go there."""
    monkeypatch.chdir(tmp_path)
