"""The claims of the README, its picture and the changelog that no other test checks."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asv_bench.tools import ratios
from asv_bench.workloads.engines import ENGINE_BY_NAME
from asv_bench.workloads.programs import make_workloads_with_hand_gradients
from gradspec.properties.running.tally import to_sentence
from gradspec.reference import OPS
from tests.faults.collected_properties import properties

ROOT = Path(__file__).parents[1]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def missing_from_the_picture(svg: str) -> list[str]:
    """Return the properties that have no row in a picture of a run."""
    shown = html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))).replace("\xa0", " ")
    return [name for name in properties() if to_sentence(name) not in shown]


def test_the_picture_shows_every_property() -> None:
    """If a property is newer than the picture, `make picture` draws it again."""
    svg = text_of("docs/run.svg")
    assert missing_from_the_picture(svg) == []
    assert missing_from_the_picture(svg.replace("calls", "culls")) == ["test_calls_leave_no_trace"]


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_nobody_is_told_that_kernels_ran_on_a_gpu(name: str) -> None:
    """The claim stays until docs/ holds a table that `asv_bench.tools.on_gpu` printed."""
    claim = re.search(r"not\s+yet\s+run\s+on\s+a\s+GPU|[Nn]othing[\w ]* has run on a GPU yet", text_of(name))
    table = any("H100" in path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    assert bool(claim) != table


@pytest.fixture
def promised(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return the exit status of `ratios --check` if each ratio were so many times the promised one."""

    def run(over_hand: float = 1.0, hips_over_tape: float = 1.0, deep: float = 1.0) -> int:
        def measure_ratio_samples(first: Any, second: Any, samples: int) -> list[float]:
            work = by_run[first]
            if work.over_hand and second == f"{work.name} by hand":
                return [over_hand * work.over_hand[1]]
            return [hips_over_tape * work.hips_over_tape[0]] if work.hips_over_tape else [1.0]

        by_run = {
            f"{work.name} {engine}": work
            for work in make_workloads_with_hand_gradients()
            for engine in ENGINE_BY_NAME
        }
        monkeypatch.setattr(
            ratios, "prepare_engines", lambda work: {e: f"{work.name} {e}" for e in ENGINE_BY_NAME}
        )
        monkeypatch.setattr(ratios, "measure_ratio_samples", measure_ratio_samples)
        monkeypatch.setattr(ratios, "measure_seconds_without_gc", lambda _: 0.001)
        monkeypatch.setattr(
            ratios, "measure_chain_us_per_op", lambda *_: deep * ratios.MAX_MICROSECONDS_PER_OP
        )
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
    assert f"- {sum(not op.module for op in OPS.values())} ops under their Array API names" in text_of(
        "CHANGELOG.md"
    )


def test_a_new_op_need_be_registered_nowhere_else() -> None:
    """That its facts are observed is shown in tests/properties/test_new_ops.py, which adds ops."""
    section = text_of("CONTRIBUTING.md").partition("## To add an op")[2].partition("\n## ")[0]
    assert "There is nothing to register" in section
    assert not re.findall(r"`([A-Z][A-Z_]+)`", section), "a list that the author of an op should look at"


def test_no_property_asks_for_an_op_by_name() -> None:
    """But for networks of several ops, the one in whose shape -1 counts, and those that halve a number."""
    allowed = {"laws/training.py", "drawing/bad_input.py", "judging/subnormals.py"}
    names = "|".join(map(re.escape, OPS))
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "properties").rglob("*.py")}
    naming = {
        path.relative_to(ROOT / "properties").as_posix()
        for path, source in sources.items()
        if re.search(
            rf"""op\.(?:name|address) (in|not in|==|!=) |["']({names})["'],? *["']({names})["']""", source
        )
    }
    assert naming <= allowed
    assert "drawing/bad_input.py" in naming  # so the search finds what it looks for
