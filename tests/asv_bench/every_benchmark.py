"""One run of every benchmark with each of its parameters, so that none can rot: `make bench-quick`.

It is not for figures. asv forks a process for each benchmark, which takes three times as long; here all run
in this process, through asv's own discovery. What is n/a is skipped, with its reason.
"""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from math import isnan
from typing import Any

import pytest
from asv_runner.discovery import disc_benchmarks, get_benchmark_from_name

from asv_bench.workloads.ops_and_backends import ROOT

BENCHMARK_FOLDER = str(ROOT / "asv_bench")
RUN_ONCE_ATTRIBUTES = {"number": 1, "repeat": 1, "rounds": 1, "warmup_time": 0}
DEFAULT_TIMEOUT_SECONDS = 300  # as `default_benchmark_timeout` in asv.conf.json


def collect_benchmarks() -> Iterator[Any]:
    """Yield the name that asv gives to each benchmark and its parameters."""
    for benchmark in disc_benchmarks(BENCHMARK_FOLDER):
        for i, parameters in enumerate(product(*benchmark.params)):
            suffix = f"({', '.join(text.strip(chr(39)) for text in parameters)})" if parameters else ""
            name = f"{benchmark.name}-{i}" if parameters else benchmark.name
            yield pytest.param(name, id=benchmark.name + suffix)


@contextmanager
def interrupt_after(seconds: float) -> Iterator[None]:
    """Interrupt the block with a TimeoutError if it takes longer."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it took more than {seconds:g} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.rotating
@pytest.mark.parametrize("name", [*collect_benchmarks()])
def test_a_benchmark_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = get_benchmark_from_name(BENCHMARK_FOLDER, name, extra_params=RUN_ONCE_ATTRIBUTES)
    benchmark.set_cache(None)
    with interrupt_after(benchmark.timeout or DEFAULT_TIMEOUT_SECONDS):
        if benchmark.do_setup():
            pytest.skip(capsys.readouterr().out.strip())
        try:
            result = benchmark.do_run()
        except NotImplementedError as reason:  # n/a, to asv
            pytest.skip(str(reason))
        finally:
            benchmark.do_teardown()
    assert result is not None, "it has no result"
    samples = result["samples"] if isinstance(result, dict) else [result]
    assert samples, "it has no samples"
    assert not any(map(isnan, samples)), f"its result is {samples}"
    # asv stores it as JSON.
    json.dumps(result)
