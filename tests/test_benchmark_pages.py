"""The page of plots: what it shows, and that it stands alone."""

import re

import pytest

from asv_bench.pages.found import Point, latest
from asv_bench.pages.make import page
from asv_bench.pages.plots import human
from asv_bench.pages.traffic import MULTIPLICATION, least_bytes, share_of_bandwidth


def figure(
    benchmark: str, *parameters: str, value: float = 1e-3, commit: str = "a" * 40, date: int = 0
) -> Point:
    return Point("machine", commit, date, benchmark, parameters, value)


@pytest.fixture(scope="module")
def html() -> str:
    found = [
        figure(f"ops.{op}.time_{direction}", backend, size, commit=commit * 40, date=date)
        for date, commit in enumerate("ab")
        for op in ("tanh", "exp")
        for direction in ("forward", "backward")
        for backend in ("numpy", "torch")
        for size in ("overhead", "cache", "memory")
    ]
    found += [
        figure("tape.mlp.track_ratio", "tape / by hand", value=1.2, commit="b" * 40, date=1),
        figure("accuracy.gelu.track_worst_error", "torch", "float32", value=0.9, commit="b" * 40, date=1),
    ]
    return page(found)


def test_the_page_shows_what_was_found(html: str) -> None:
    for text in ("tanh", "gelu", "torch", "MLP", "bbbbbbbb", "How exact", "History of one op", "64 KiB"):
        assert text in html


def test_the_page_needs_no_network(html: str) -> None:
    assert not re.findall(
        r'(?:src|href)="(?!#|\.\./)[^"]+"', re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)
    )
    assert not re.findall(r'xlink:href="(?!#)', html)


def test_the_latest_figure_counts() -> None:
    found = [figure("ops.tanh.time_forward", "numpy", value=v, date=d) for d, v in ((0, 1.0), (1, 2.0))]
    assert [p.value for p in latest(found)] == [2.0]


def test_a_multiplication_has_all_of_the_bandwidth() -> None:
    assert least_bytes("multiply", "forward") == MULTIPLICATION
    point = figure("ops.multiply.time_forward", "numpy", "memory", value=4e-3)
    assert share_of_bandwidth(point, "forward", {"numpy memory": 4e-3}) == pytest.approx(1)
    assert share_of_bandwidth(point, "forward", {}) is None


def test_memory_does_not_limit_products() -> None:
    point = figure("ops.matmul.time_forward", "numpy", "memory")
    assert share_of_bandwidth(point, "forward", {"numpy memory": 4e-3}) is None


def test_times_are_written_as_people_write_them() -> None:
    assert [human(t) for t in (2e-9, 3.5e-6, 0.012, 2)] == ["2 ns", "3.5 us", "12 ms", "2 s"]
