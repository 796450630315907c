"""Times for people, a table for each op, and the same as JSON."""

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from gradspec.properties.cases.literals import literal
from gradspec.timing.cells import Cell
from gradspec.timing.turns import Spread

MIN_WIDTH = 110
"""Of a table; a terminal that is narrower wraps its lines."""

LEGEND = (
    "/ spec, / another: how many times as long as that takes, in turns: the median and, in parentheses, the "
    "quartiles, between which half of the rounds lie. Below 1 is faster. Times are medians of one call, warm."
)

MIN_DIFFERENCE = 0.1
"""From 1, of ratios that are coloured: the same code beside itself is at times 10% off."""


def make_table(cells: Sequence[Cell], others: Sequence[str], title: str) -> Table:
    """Return the table of one op.

    Args:
        cells: Its cells, in the order of the rows.
        others: The labels of the sides that the first is compared with, a column each.
        title: What stands above.
    """
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in ("size", "call", "pass"):
        table.add_column(heading, no_wrap=heading != "call", overflow="fold")
    table.add_column(escape(cells[0].first) if cells else "time", justify="right", no_wrap=True)
    for label in others:
        table.add_column(escape(f"/ {label}"), no_wrap=True)
    last = ("", "")
    for cell in cells:
        call = (cell.size, format_call(cell))
        shown = ("", "") if call == last else call
        last = call
        seconds = format_seconds(cell.get_seconds(cell.first).median)
        ratios = [_format_ratio(cell, label) for label in others]
        table.add_row(shown[0], escape(shown[1]), cell.direction, seconds, *ratios)
    return table


def format_call(cell: Cell) -> str:
    """Return the shapes and the keywords of a call, as in "(128,128) (128) eps=1e-06"."""
    shapes = [f"({','.join(map(str, x.shape))})" for x in cell.case.inputs]
    keywords = cell.case.without_defaults.keywords
    return " ".join([*shapes, *(f"{name}={_shorten(literal(x))}" for name, x in keywords.items())])


def _shorten(text: str, max_characters: int = 24) -> str:
    return text if len(text) <= max_characters else f"{text[: max_characters - 3]}..."


def _format_ratio(cell: Cell, label: str) -> str:
    """Return a ratio with its quartiles, green if most rounds are clearly faster, red if they are slower."""
    if label not in cell.samples:
        return "–"
    spread = Spread.of(cell.get_ratios(label))
    is_clear = abs(spread.median - 1) > MIN_DIFFERENCE and not spread.low <= 1 <= spread.high
    style = "default" if not is_clear else "green" if spread.median < 1 else "red"
    return f"[{style}]{spread.median:.2f}[/] ({spread.low:.2f} to {spread.high:.2f})"


def format_seconds(seconds: float) -> str:
    """Return a time with three digits and the unit that people would choose."""
    for unit, scale in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def cell_as_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as tools read it; times are in seconds."""
    return {
        "op": cell.op,
        "size": cell.size,
        "shapes": [list(x.shape) for x in cell.case.inputs],
        "keywords": {name: literal(x) for name, x in cell.case.keywords.items()},
        "pass": cell.direction,
        "rounds": len(cell.samples[cell.first]),
        "seconds": {label: _spread_as_json(cell.get_seconds(label)) for label in cell.samples},
        "ratios": {
            label: _spread_as_json(Spread.of(cell.get_ratios(label)))
            for label in cell.samples
            if label != cell.first
        },
    }


def _spread_as_json(spread: Spread) -> dict[str, float]:
    return {"low": spread.low, "median": spread.median, "high": spread.high}


def collect_versions(*libraries: str) -> dict[str, str]:
    """Return the versions of Python, gradspec, NumPy and these modules, as far as they are known."""
    versions = {"python": platform.python_version(), "gradspec": version("gradspec"), "numpy": np.__version__}
    modules = {name: sys.modules[name] for name in libraries if name in sys.modules}
    return versions | {n: str(getattr(module, "__version__", "unknown")) for n, module in modules.items()}
