"""Every benchmark once, with each of its parameters, so that none can rot: `make bench-quick`.

Not for figures. asv forks a process for each, which takes three times as long; here all of them run in this one, through asv's
own discovery. What is n/a is skipped, with its reason.
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

from asv_bench.subjects import ROOT

FOLDER = str(ROOT / "asv_bench")
ONCE = {"number": 1, "repeat": 1, "rounds": 1, "warmup_time": 0}
AT_MOST = 300  # seconds, as `default_benchmark_timeout` in asv.conf.json


def each() -> Iterator[Any]:
    """The name that asv knows each by."""
    for benchmark in disc_benchmarks(FOLDER):
        for i, parameters in enumerate(product(*benchmark.params)):
            shown = f"({', '.join(text.strip(chr(39)) for text in parameters)})" if parameters else ""
            name = f"{benchmark.name}-{i}" if parameters else benchmark.name
            yield pytest.param(name, id=benchmark.name + shown)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """A block that is interrupted by a TimeoutError if it takes longer."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it took more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.rotating
@pytest.mark.parametrize("name", [*each()])
def test_a_benchmark_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = get_benchmark_from_name(FOLDER, name, extra_params=ONCE)
    benchmark.set_cache(None)
    with at_most(benchmark.timeout or AT_MOST):
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
    json.dumps(result)  # as which asv files it
