"""What the README, the changelog and its picture claim, as far as no other test does."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asv_bench.tools import ratios
from asv_bench.workloads.programs import make_workloads_with_hand_gradients
from gradspec.properties.running.matrix import to_sentence
from gradspec.reference import OPS
from tests.faults.collected_properties import properties

ROOT = Path(__file__).parents[1]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def missing_from_the_picture(svg: str) -> list[str]:
    """The properties that a picture of a run has no row of."""
    shown = html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))).replace("\xa0", " ")
    return [name for name in properties() if to_sentence(name) not in shown]


def test_the_picture_shows_every_property() -> None:
    """One that is older than a property is made anew by `make picture`."""
    svg = text_of("docs/run.svg")
    assert missing_from_the_picture(svg) == []
    assert missing_from_the_picture(svg.replace("calls", "culls")) == ["test_calls_leave_no_trace"]


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_nobody_is_told_that_kernels_ran_on_a_gpu(name: str) -> None:
    """Until a table that `asv_bench.tools.on_gpu` printed stands in the documents."""
    said = re.search(r"not yet run on a GPU|[Nn]othing[\w ]* has run on a GPU yet", text_of(name))
    table = any("H100" in path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    assert bool(said) != table


@pytest.fixture
def promised(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """What `ratios --check` ends with, were each ratio so many times the one that is promised."""

    def run(over_hand: float = 1.0, hips_over_tape: float = 1.0, deep: float = 1.0) -> int:
        def side_by_side(first: Any, second: Any, samples: int) -> list[float]:
            work = by_run[first]
            if work.over_hand and second == f"{work.name} by hand":
                return [over_hand * work.over_hand[1]]
            return [hips_over_tape * work.hips_over_tape[0]] if work.hips_over_tape else [1.0]

        by_run = {
            f"{work.name} {engine}": work
            for work in make_workloads_with_hand_gradients()
            for engine in ratios.ENGINE_BY_NAME
        }
        monkeypatch.setattr(
            ratios, "prepare_engines", lambda work: {e: f"{work.name} {e}" for e in ratios.ENGINE_BY_NAME}
        )
        monkeypatch.setattr(ratios, "measure_ratio_samples", side_by_side)
        monkeypatch.setattr(ratios, "measure_one_call", lambda _: 0.001)
        monkeypatch.setattr(ratios, "measure_deep_chain", lambda *_: deep * ratios.MAX_MICROSECONDS_PER_OP)
        monkeypatch.setattr("sys.argv", ["ratios", "--check"])
        return ratios.main()

    return run


def test_a_broken_promise_of_speed_is_told(promised: Callable[..., int]) -> None:
    assert promised() == 0
    assert promised(over_hand=1.4, hips_over_tape=1 / 1.4) == 0  # within the margin
    assert promised(over_hand=1.6) == promised(hips_over_tape=1 / 1.6) == promised(deep=1.1) == 1


def test_every_work_has_its_promises() -> None:
    assert all(work.over_hand and work.hips_over_tape for work in make_workloads_with_hand_gradients())


def test_the_number_of_ops_is_right() -> None:
    assert f"- {len(OPS)} ops under their Array API names" in text_of("CHANGELOG.md")
