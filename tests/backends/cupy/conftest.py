"""The fixture for both orders of threads."""

import pytest

from tests.stand_ins import cuda_emulation


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def thread_order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run threads and blocks from the first to the last, and from the last to the first."""
    monkeypatch.setattr(cuda_emulation, "reverse_order", request.param)
    return bool(request.param)
