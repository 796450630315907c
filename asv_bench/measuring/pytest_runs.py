"""Runs of the properties as a user starts them, each in a process of its own, and what they cost."""

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

from asv_bench.measuring.undisturbed_time import (
    get_multiplication_seconds,
    make_multiplication,
    make_slice_timer,
)
from asv_bench.workloads.ops_and_backends import ROOT
from gradspec.backends import load
from gradspec.timing.one_thread import ONE_THREAD

EXIT_OK, EXIT_TESTS_FAILED = 0, 1  # exit codes of pytest


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended.

    Attributes:
        status: pytest's exit status.
        seconds: CPU time, undisturbed.
        cases: how many cases were judged.
        hypothesis_share: Hypothesis's share of the time; None where cProfile was not used.
    """

    status: int
    seconds: float
    cases: int
    hypothesis_share: float | None


def run_properties(
    *arguments: str, properties: str = "gradspec.properties", use_cprofile: bool = False
) -> FinishedRun:
    """Run the properties with these arguments, and with the same cases each time.

    Args:
        *arguments: further options of pytest.
        properties: the package or module of the properties to run.
        use_cprofile: run under cProfile, several times as slow, for Hypothesis's share of the time.

    Raises:
        SkipNotImplemented: at commits whose properties take other arguments.
    """
    with TemporaryDirectory() as folder:
        matrix, profile = Path(folder, "matrix.json"), Path(folder, "profile")
        profiler = ("-m", "cProfile", "-o", str(profile)) if use_cprofile else ()
        options = ("--matrix", str(matrix), "--hypothesis-seed=0", "-q", "-p", "no:cacheprovider")
        pytest = ("-m", "pytest", "-p", "gradspec.properties.plugin", "--pyargs", properties)
        status, seconds = _run_and_measure([sys.executable, *profiler, *pytest, *options, *arguments], folder)
        if status not in (EXIT_TESTS_FAILED, EXIT_OK):
            raise SkipNotImplemented(
                f"the properties of this commit do not accept these arguments: pytest exits with {status}"
            )
        entries = json.loads(matrix.read_text())["entries"]
        share = _compute_time_share(str(profile), "hypothesis") if use_cprofile else None
        return FinishedRun(status, seconds, sum(entry["tally"]["judged"] for entry in entries), share)


def _run_and_measure(command: list[str], folder: str) -> tuple[int, float]:
    """Return the exit status and the CPU seconds, corrected as `undisturbed_time` says."""
    numpy = load("numpy")
    reference = make_slice_timer(make_multiplication(numpy, "overhead"), time.thread_time)
    # The faults are imported from ROOT.
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)}
    references, start = [reference() for _ in range(20)], _read_children_seconds()
    status = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode
    seconds = _read_children_seconds() - start
    references += [reference() for _ in range(20)]
    median = sorted(references)[len(references) // 2]
    return status, seconds * get_multiplication_seconds(numpy, "overhead") / median


def _read_children_seconds() -> float:
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _compute_time_share(profile: str, package: str) -> float:
    """Return the share of the time that a package's functions took themselves, without what they call."""
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    own = {where: timing[2] for where, timing in stats.items()}
    inside = sum(t for (file, _, _), t in own.items() if f"/{package}/" in file)
    return float(inside / sum(own.values()))
