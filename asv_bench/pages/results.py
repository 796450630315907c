"""The results that asv has stored so far, read through asv itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import isfinite
from pathlib import Path

from asv.config import Config
from asv.results import iter_results


@dataclass(frozen=True)
class Point:
    """The figure of a benchmark at its parameters, at a commit (authored at `date_ms`), on a machine."""

    machine: str
    commit: str
    date_ms: int
    benchmark: str
    parameters: tuple[str, ...]
    value: float

    @property
    def benchmark_class(self) -> str:
        """The class of the benchmark: of "ops.tanh.time_forward" it is tanh."""
        return self.benchmark.split(".")[1]


def load_points(root: Path) -> list[Point]:
    """Return all figures in the results folder of asv.conf.json, oldest commit first; n/a is left out."""
    conf = Config.load(str(root / "asv.conf.json"))
    folder = root / str(conf.results_dir)
    return sorted(_iterate_points(folder), key=lambda p: p.date_ms) if folder.is_dir() else []


def _iterate_points(folder: Path) -> Iterator[Point]:
    for result in iter_results(str(folder)):
        for name in result.get_all_result_keys():
            params = result.get_result_params(name)
            values = result.get_result_value(name, params)
            for at, value in zip(product(*params), values, strict=True):
                if value is not None and isfinite(value):
                    where = tuple(text.strip("'") for text in at)
                    machine = result.params["machine"]
                    yield Point(machine, result.commit_hash, result.date, name, where, value)


def select_latest(points: list[Point]) -> list[Point]:
    """Return the newest figure of each benchmark at its parameters, from the machine that was used last."""
    machine = points[-1].machine if points else ""
    return list({(p.benchmark, p.parameters): p for p in points if p.machine == machine}.values())
