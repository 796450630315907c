"""Plots of the results, each as the text of an SVG."""

from collections.abc import Iterable, Mapping, Sequence
from io import StringIO

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

mpl.use("svg")
plt.rcParams.update(
    {
        "svg.fonttype": "none",  # text that can be searched, in the reader's own font
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
    }
)
# The colour-blind can tell them apart, too.
COLOURS = ("#4053d3", "#ddb310", "#b51d14", "#00b25d", "#00beff", "#fb49b0")
ROW_INCHES = 0.19  # the height of a line of text
MAX_COMMIT_LABELS = 12  # so many fit beside each other
# The name of a series that is a bound and not a figure begins with it.
PROMISE_PREFIX = "promised"

ValuesBySeries = Mapping[str, Mapping[str, float]]
"""The value of each row, by series."""


def draw_dots(
    panels: Mapping[str, ValuesBySeries],
    label: str,
    *,
    log: bool = False,
    marked_value: float | None = None,
    are_seconds: bool = False,
) -> str:
    """Draw rows of dots, in a column for each panel.

    Each panel has all rows. They are sorted by the first series of the last panel.

    Args:
        panels: the values of each panel, by title.
        label: the text below the axis of values.
        log: whether that axis is logarithmic.
        marked_value: a value to be marked by a line.
        are_seconds: whether the values are seconds.
    """
    rows = _sort_rows(panels)
    figure, axes = plt.subplots(
        1, len(panels), sharey=True, squeeze=False, figsize=(11, 1 + ROW_INCHES * len(rows))
    )
    for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
        for colour, (name, values) in zip(COLOURS, series.items(), strict=False):
            own_rows = [row for row in rows if row in values]
            xs, ys = [values[row] for row in own_rows], [rows.index(row) for row in own_rows]
            mark, size, width = ("|", 14, 2) if name.startswith(PROMISE_PREFIX) else ("o", 5, 1)
            ax.plot(xs, ys, mark, ms=size, mew=width, color=colour, label=name)
        _decorate_axes(ax, title, label, marked_value=marked_value)
        if log:
            ax.set_xscale("log")
            (_format_axis_as_times if are_seconds else _format_axis_as_factors)(ax.xaxis)
    axes[0][0].set_yticks(range(len(rows)), rows, fontsize=8)
    axes[0][0].set_ylim(-0.7, len(rows) - 0.3)
    return _render_svg(figure, axes[0][0])


def draw_history(series: Mapping[str, Mapping[str, float]], commits: Sequence[str], title: str) -> str:
    """Draw a line for each series: its seconds at the commits that have any, the oldest commit first."""
    figure, ax = plt.subplots(figsize=(11, 2.8))
    for colour, (name, values) in zip(COLOURS * 2, series.items(), strict=False):
        xs = [i for i, commit in enumerate(commits) if commit in values]
        ax.plot(xs, [values[commits[i]] for i in xs], "o-", ms=4, lw=1.2, color=colour, label=name)
    _decorate_axes(ax, title, "", marked_value=None)
    every = -(-len(commits) // MAX_COMMIT_LABELS)
    ax.set_xticks(range(0, len(commits), every), [commit[:8] for commit in commits[::every]])
    ax.set_yscale("log")
    _format_axis_as_times(ax.yaxis)
    return _render_svg(figure, ax)


def _format_axis_as_times(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 3), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_seconds(value)))
    axis.set_minor_formatter(NullFormatter())


def format_seconds(seconds: float) -> str:
    """Return a time as people write it: 2 us, 30 ms."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _sort_rows(panels: Mapping[str, ValuesBySeries]) -> list[str]:
    *_, last = panels.values()
    first: Mapping[str, float] = next(iter(last.values()), {})
    rows = {row for series in panels.values() for values in series.values() for row in values}
    return sorted(rows, key=lambda row: (first.get(row, np.inf), row), reverse=True)


def _format_axis_as_factors(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _decorate_axes(ax: Axes, title: str, label: str, *, marked_value: float | None) -> None:
    ax.set_title(title, loc="left", fontsize=10, fontweight="bold")
    ax.set_xlabel(label, fontsize=9)
    ax.grid(color="#e4e4e4", lw=0.6)
    ax.tick_params(length=0, labelsize=8)
    if marked_value is not None:
        ax.axvline(marked_value, color="#444444", lw=1, ls="--")


def _render_svg(figure: Figure, ax: Axes) -> str:
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="upper right", ncols=max(1, len(names)), fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    plt.close(figure)
    return _extract_svg_element(text.getvalue().splitlines(keepends=True))


def _extract_svg_element(lines: Iterable[str]) -> str:
    """Return the <svg> element without the lines that may only stand at the top of a file."""
    text = "".join(lines)
    return text[text.index("<svg") :]
