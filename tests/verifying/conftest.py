"""Each test runs in a folder of its own, and knows an op that no other test does."""

from pathlib import Path

import pytest

from gradspec.reference import OPS
from tests.verifying import norms

del OPS[norms.rms_norm.address]  # tests of other folders go over all ops


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures and Hypothesis' examples go there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _declared_op(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPS, norms.rms_norm.address, norms.rms_norm)
