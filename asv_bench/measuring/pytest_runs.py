"""Runs of the properties as a user starts them, in a process of their own, for what they cost."""

import json
import os
import pstats
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory

from asv_runner.benchmarks.mark import SkipNotImplemented

from asv_bench.measuring.clock import get_undisturbed_seconds, make_multiplication, make_slice_timer
from asv_bench.workloads.ops_and_backends import ROOT
from gradspec.backends import load

EXIT_TESTS_FAILED, EXIT_OK, EXIT_USAGE_ERROR = 1, 0, 4  # exit codes of pytest


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended.

    status: pytest's. seconds: of the processor, undisturbed. cases: how many were judged. hypothesis: its share of the
    time, None where the run was not profiled.
    """

    status: int
    seconds: float
    cases: int
    hypothesis_share: float | None


def run_properties(
    *arguments: str, properties: str = "gradspec.properties", use_cprofile: bool = False
) -> FinishedRun:
    """Run the properties with these arguments, and with the same cases each time.

    profiled: by cProfile, for the share of Hypothesis, which then takes several times as long. N/a at commits whose properties
    take other arguments.
    """
    with TemporaryDirectory() as folder:
        matrix, profile = Path(folder, "matrix.json"), Path(folder, "profile")
        profiler = ("-m", "cProfile", "-o", str(profile)) if use_cprofile else ()
        options = ("--matrix", str(matrix), "--hypothesis-seed=0", "-q", "-p", "no:cacheprovider")
        pytest = ("-m", "pytest", "-p", "gradspec.properties.plugin", "--pyargs", properties)
        status, seconds = _run_and_measure([sys.executable, *profiler, *pytest, *options, *arguments], folder)
        if status not in (EXIT_TESTS_FAILED, EXIT_OK):
            raise SkipNotImplemented(
                f"the properties of this commit do not run so: pytest exits with {status}"
            )
        entries = json.loads(matrix.read_text())["entries"]
        share = _compute_time_share(str(profile), "hypothesis") if use_cprofile else None
        return FinishedRun(status, seconds, sum(entry["tally"]["judged"] for entry in entries), share)


def _run_and_measure(command: list[str], folder: str) -> tuple[int, float]:
    """The exit status, and the seconds of the processor, relative to multiplications before and after: see `clock`."""
    numpy = load("numpy")
    reference = make_slice_timer(make_multiplication(numpy, "overhead"), time.thread_time)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # where the faults are
    around, start = [reference() for _ in range(20)], _read_children_seconds()
    status = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode
    seconds = _read_children_seconds() - start
    around += [reference() for _ in range(20)]
    return status, seconds * get_undisturbed_seconds(numpy, "overhead") / sorted(around)[len(around) // 2]


def _read_children_seconds() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _compute_time_share(profile: str, package: str) -> float:
    """The share of the time that was spent in functions of a package, without what they call."""
    found = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    own = {where: timing[2] for where, timing in found.items()}
    inside = sum(t for (file, _, _), t in own.items() if f"/{package}/" in file)
    return float(inside / sum(own.values()))
