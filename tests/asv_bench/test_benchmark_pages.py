"""Tests of the page of plots: what it shows, and that it is one file."""

import re

import pytest

from asv_bench.pages.bandwidth import MULTIPLICATION_BYTES, compute_bandwidth_share, count_least_bytes
from asv_bench.pages.make import render_page
from asv_bench.pages.plots import format_seconds
from asv_bench.pages.results import Point, select_latest


def make_point(
    benchmark: str, *parameters: str, value: float = 1e-3, commit: str = "a" * 40, date: int = 0
) -> Point:
    return Point("machine", commit, date, benchmark, parameters, value)


@pytest.fixture(scope="module")
def html() -> str:
    points = [
        make_point(f"ops.{op}.time_{direction}", backend, size, commit=commit * 40, date=date)
        for date, commit in enumerate("ab")
        for op in ("tanh", "exp")
        for direction in ("forward", "backward")
        for backend in ("numpy", "torch")
        for size in ("overhead", "cache", "memory")
    ]
    points += [
        make_point("tape.mlp.track_ratio", "tape / by hand", value=1.2, commit="b" * 40, date=1),
        make_point("accuracy.gelu.track_worst_error", "torch", "float32", value=0.9, commit="b" * 40, date=1),
    ]
    return render_page(points)


def test_the_page_shows_what_was_found(html: str) -> None:
    for text in ("tanh", "gelu", "torch", "MLP", "bbbbbbbb", "How exact", "History of one op", "64 KiB"):
        assert text in html


def test_the_page_needs_no_network(html: str) -> None:
    without_plots = re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|\.\./)[^"]+"', without_plots)
    assert not re.findall(r'xlink:href="(?!#)', html)


def test_the_latest_figure_counts() -> None:
    points = [make_point("ops.tanh.time_forward", "numpy", value=v, date=d) for d, v in ((0, 1.0), (1, 2.0))]
    assert [p.value for p in select_latest(points)] == [2.0]


def test_a_multiplication_has_all_of_the_bandwidth() -> None:
    assert count_least_bytes("multiply", "forward") == MULTIPLICATION_BYTES
    point = make_point("ops.multiply.time_forward", "numpy", "memory", value=4e-3)
    assert compute_bandwidth_share(point, "forward", {"numpy memory": 4e-3}) == pytest.approx(1)
    assert compute_bandwidth_share(point, "forward", {}) is None


def test_memory_does_not_limit_products() -> None:
    point = make_point("ops.matmul.time_forward", "numpy", "memory")
    assert compute_bandwidth_share(point, "forward", {"numpy memory": 4e-3}) is None


def test_times_are_written_as_people_write_them() -> None:
    assert [format_seconds(t) for t in (2e-9, 3.5e-6, 0.012, 2)] == ["2 ns", "3.5 us", "12 ms", "2 s"]
