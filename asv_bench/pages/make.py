"""Plots of all results on one page, beside asv's own: `python -m asv_bench.pages.make`, after `asv publish`.

The page is .asv/html/plots/index.html. It needs no server and no network: everything is in the one file.
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

from asv_bench.clock import KEPT
from asv_bench.pages import plots
from asv_bench.pages.found import Point, latest, points
from asv_bench.pages.traffic import share_of_bandwidth
from asv_bench.subjects import BACKENDS, ROOT, SIZES
from asv_bench.workloads import workloads

SIZE_TITLES = dict(
    zip(SIZES, ("8 elements", "64 KiB, products of 64 x 64", "16 MiB, products of 512 x 512"), strict=True)
)
DIRECTIONS = {"backward": "The gradients", "forward": "The value"}


@dataclass(frozen=True)
class Section:
    """A plot, under a title, with what to see in it."""

    name: str
    title: str
    text: str
    plot: str


def sections(now: list[Point]) -> list[Section]:
    """Those plots for which there is anything to show."""
    made = [*(_times(now, d) for d in DIRECTIONS), _ratios(now), _bandwidth(now), _errors(now)]
    return [section for section in made if section]


def _times(now: list[Point], direction: str) -> Section | None:
    panels = {
        SIZE_TITLES[size]: _series(
            (p.parameters[0], p.subject, p.value)
            for p in _of(now, "ops", f"time_{direction}")
            if p.parameters[1] == size
        )
        for size in SIZES
    }
    text = "Seconds of one call in float32, on one thread. What is far to the right of its neighbours is worth a look."
    return _section(direction, f"{DIRECTIONS[direction]}, op by op", text, panels, "", log=True, time=True)


def _ratios(now: list[Point]) -> Section | None:
    names = {work.key: work.name for work in workloads()}
    found = [
        p
        for p in _of(now, "tape", "track_ratio")
        if p.parameters[0].endswith("/ by hand") and p.subject in names
    ]
    series = _series((p.parameters[0].partition(" /")[0], names[p.subject], p.value) for p in found)
    promised = {w.name: w.over_hand[1] for w in workloads() if w.over_hand}
    text = "Forward and backward, side by side in one process; 1 is what the same work takes where a person has written the gradient out in NumPy."
    panels = {"": {**series, f"{plots.PROMISE} of the tape, at most": promised}} if series else {}
    return _section("ratios", "Against NumPy by hand", text, panels, "times as long", log=True, line=1.0)


def _bandwidth(now: list[Point]) -> Section | None:
    undisturbed = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    panels = {}
    for direction, title in DIRECTIONS.items():
        at_memory = [p for p in _of(now, "ops", f"time_{direction}") if p.parameters[1] == "memory"]
        shares = (
            (p.parameters[0], p.subject, share_of_bandwidth(p, direction, undisturbed)) for p in at_memory
        )
        panels[title] = _series((b, op, s) for b, op, s in shares if s is not None)
    text = (
        "The bytes that have to be read and written at least, on 16 MiB, by the time that it takes; 1 is what the library's own "
        "multiplication reaches. An op below 1 reads or writes more than it has to, or computes more than memory waits for."
    )
    return _section(
        "bandwidth", "Share of the memory's bandwidth", text, panels, "of that of x * y", line=1.0
    )


def _errors(now: list[Point]) -> Section | None:
    found = [p for p in _of(now, "accuracy", "track_worst_error") if p.value > 0]
    panels = {
        b: _series((p.parameters[1], p.subject, p.value) for p in found if p.parameters[0] == b)
        for b in BACKENDS
    }
    text = "The largest error of value and gradients over the same cases each time; 1 is what is allowed. What is always exact is left out."
    shown = {b: series for b, series in panels.items() if series}
    return _section("errors", "How exact", text, shown, "of what is allowed", line=1.0)


def histories(found: list[Point]) -> dict[str, str]:
    """For each op that was benchmarked at more than one commit, its times."""
    at_cache = [p for p in found if p.benchmark.startswith("ops.") and p.parameters[1:] == ("cache",)]
    commits = list(dict.fromkeys(p.commit for p in at_cache))
    by_op: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for p in at_cache:
        by_op[p.subject][f"{p.parameters[0]}, {p.benchmark.rpartition('_')[2]}"][p.commit] = p.value
    return {
        op: plots.history(series, commits, op)
        for op, series in sorted(by_op.items())
        if any(len(line) > 1 for line in series.values())
    }


def _of(now: list[Point], module: str, name: str) -> list[Point]:
    return [p for p in now if p.benchmark.startswith(f"{module}.") and p.benchmark.endswith(f".{name}")]


def _series(triples: Iterable[tuple[str, str, float]]) -> dict[str, dict[str, float]]:
    series: dict[str, dict[str, float]] = {}
    for name, row, value in triples:
        series.setdefault(name, {})[row] = value
    return series


def _section(
    name: str, title: str, text: str, panels: Mapping[str, plots.Dots], label: str, **how: Any
) -> Section | None:
    """A section with the dots of these panels, drawn as `plots.dots` is told; None where there are none."""
    if not any(series for series in panels.values()):
        return None
    return Section(name, title, text, plots.dots(panels, label, **how))


def page(found: list[Point]) -> str:
    """The page of all figures, as HTML."""
    now, last = latest(found), found[-1]
    template = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template(
        "page.html.jinja"
    )
    return template.render(
        machine=last.machine,
        commit=last.commit[:8],
        date=datetime.fromtimestamp(last.date / 1000, UTC).date(),
        count=len(found),
        commits=len({p.commit for p in found}),
        sections=sections(now),
        histories=histories([p for p in found if p.machine == last.machine]),
    )


def main() -> int:
    """Write the page; 1 where there are no results."""
    found = points(ROOT)
    if not found:
        print("no results yet: `make bench` or `asv run` first", file=sys.stderr)
        return 1
    file = ROOT / str(Config.load(str(ROOT / "asv.conf.json")).html_dir) / "plots" / "index.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page(found), encoding="utf-8")
    print(f"{file}\nasv's own pages, which need a server: asv preview")
    return 0


if __name__ == "__main__":
    sys.exit(main())
