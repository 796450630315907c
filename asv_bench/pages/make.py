"""A page with plots of all results, beside asv's own pages: `python -m asv_bench.pages.make`.

The page is .asv/html/plots/index.html, to be made after `asv publish`. It needs no server and no network:
everything is in one file.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asv.config import Config
from jinja2 import Environment, FileSystemLoader

from asv_bench.measuring.undisturbed_time import UNDISTURBED_TIMES_FILE
from asv_bench.pages import plots
from asv_bench.pages.bandwidth import compute_bandwidth_share
from asv_bench.pages.results import Point, load_points, select_latest
from asv_bench.workloads.calls import SIZES
from asv_bench.workloads.ops_and_backends import BACKENDS, ROOT
from asv_bench.workloads.programs import make_workloads_with_hand_gradients

SIZE_TITLES = dict(
    zip(SIZES, ("8 elements", "64 KiB, products of 64 x 64", "16 MiB, products of 512 x 512"), strict=True)
)
DIRECTION_TITLES = {"backward": "The gradients", "forward": "The value"}


@dataclass(frozen=True)
class Section:
    """A plot under a title, with a text that says what to see in it."""

    name: str
    title: str
    text: str
    plot: str


def make_sections(latest_points: list[Point]) -> list[Section]:
    """Return a section for each plot that has anything to show."""
    sections = [
        *(_make_times_section(latest_points, d) for d in DIRECTION_TITLES),
        _make_ratios_section(latest_points),
        _make_bandwidth_section(latest_points),
        _make_errors_section(latest_points),
    ]
    return [section for section in sections if section]


def _make_times_section(latest_points: list[Point], direction: str) -> Section | None:
    panels = {
        SIZE_TITLES[size]: _group_into_series(
            (p.parameters[0], p.benchmark_class, p.value)
            for p in _select_points(latest_points, "ops", f"time_{direction}")
            if p.parameters[1] == size
        )
        for size in SIZES
    }
    text = (
        "Seconds of one call in float32, on one thread. "
        "A dot far to the right of its neighbours is worth a look."
    )
    title = f"{DIRECTION_TITLES[direction]}, op by op"
    return _make_section(direction, title, text, panels, "", log=True, are_seconds=True)


def _make_ratios_section(latest_points: list[Point]) -> Section | None:
    names = {work.key: work.name for work in make_workloads_with_hand_gradients()}
    series = _group_into_series(
        (p.parameters[0].partition(" /")[0], names[p.benchmark_class], p.value)
        for p in _select_points(latest_points, "tape", "track_ratio")
        if p.parameters[0].endswith("/ by hand") and p.benchmark_class in names
    )
    promised = {w.name: w.over_hand[1] for w in make_workloads_with_hand_gradients() if w.over_hand}
    text = (
        "Forward and backward, side by side in one process; 1 is the time of the same program where a person "
        "has written the gradient out in NumPy."
    )
    panels = {"": {**series, f"{plots.PROMISE_PREFIX} of the tape, at most": promised}} if series else {}
    return _make_section(
        "ratios", "Against NumPy by hand", text, panels, "times as long", log=True, marked_value=1.0
    )


def _make_bandwidth_section(latest_points: list[Point]) -> Section | None:
    undisturbed = json.loads(UNDISTURBED_TIMES_FILE.read_text()) if UNDISTURBED_TIMES_FILE.exists() else {}
    panels = {}
    for direction, title in DIRECTION_TITLES.items():
        at_memory = [
            p
            for p in _select_points(latest_points, "ops", f"time_{direction}")
            if p.parameters[1] == "memory"
        ]
        shares = (
            (p.parameters[0], p.benchmark_class, compute_bandwidth_share(p, direction, undisturbed))
            for p in at_memory
        )
        panels[title] = _group_into_series((b, op, s) for b, op, s in shares if s is not None)
    text = (
        "The least bytes that must be read and written, on 16 MiB, divided by the time; 1 is what the "
        "library's own multiplication reaches. An op below 1 reads or writes more than it must, or computes "
        "for longer than memory takes."
    )
    return _make_section(
        "bandwidth", "Share of the memory's bandwidth", text, panels, "of that of x * y", marked_value=1.0
    )


def _make_errors_section(latest_points: list[Point]) -> Section | None:
    errors = [p for p in _select_points(latest_points, "accuracy", "track_worst_error") if p.value > 0]
    panels = {
        b: _group_into_series(
            (p.parameters[1], p.benchmark_class, p.value) for p in errors if p.parameters[0] == b
        )
        for b in BACKENDS
    }
    text = (
        "The largest error of value and gradients over the same cases each time; 1 is what is allowed. "
        "Ops that are always exact are left out."
    )
    panels = {b: series for b, series in panels.items() if series}
    return _make_section("errors", "How exact", text, panels, "of what is allowed", marked_value=1.0)


def plot_histories(points: list[Point]) -> dict[str, str]:
    """Plot the times of each op that was benchmarked at more than one commit."""
    at_cache = [p for p in points if p.benchmark.startswith("ops.") and p.parameters[1:] == ("cache",)]
    commits = list(dict.fromkeys(p.commit for p in at_cache))
    by_op: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for p in at_cache:
        by_op[p.benchmark_class][f"{p.parameters[0]}, {p.benchmark.rpartition('_')[2]}"][p.commit] = p.value
    return {
        op: plots.draw_history(series, commits, op)
        for op, series in sorted(by_op.items())
        if any(len(line) > 1 for line in series.values())
    }


def _select_points(latest_points: list[Point], module: str, name: str) -> list[Point]:
    return [
        p for p in latest_points if p.benchmark.startswith(f"{module}.") and p.benchmark.endswith(f".{name}")
    ]


def _group_into_series(triples: Iterable[tuple[str, str, float]]) -> dict[str, dict[str, float]]:
    series: dict[str, dict[str, float]] = {}
    for name, row, value in triples:
        series.setdefault(name, {})[row] = value
    return series


def _make_section(
    name: str, title: str, text: str, panels: Mapping[str, plots.ValuesBySeries], label: str, **options: Any
) -> Section | None:
    """Return a section with the dots of these panels, or None if there are none.

    The `options` are those of `plots.draw_dots`.
    """
    if not any(series for series in panels.values()):
        return None
    return Section(name, title, text, plots.draw_dots(panels, label, **options))


def render_page(points: list[Point]) -> str:
    """Return the page of all figures, as HTML."""
    last = points[-1]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    template = environment.get_template("page.html.jinja")
    return template.render(
        machine=last.machine,
        commit=last.commit[:8],
        date=datetime.fromtimestamp(last.date_ms / 1000, UTC).date(),
        count=len(points),
        commits=len({p.commit for p in points}),
        sections=make_sections(select_latest(points)),
        histories=plot_histories([p for p in points if p.machine == last.machine]),
    )


def main() -> int:
    """Write the page; return 1 where there are no results."""
    points = load_points(ROOT)
    if not points:
        print("no results yet: `make bench` or `asv run` first", file=sys.stderr)
        return 1
    file = ROOT / str(Config.load(str(ROOT / "asv.conf.json")).html_dir) / "plots" / "index.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render_page(points), encoding="utf-8")
    print(f"{file}\nasv's own pages, which need a server: asv preview")
    return 0


if __name__ == "__main__":
    sys.exit(main())
