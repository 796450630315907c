"""A machine that flushes subnormal numbers: torch on a processor that is told to."""

import subprocess
import sys

import pytest

from tests.helpers.pytest_runs import make_environment

TORCH_SCRIPT = """
from dataclasses import replace
from itertools import islice
import torch
from gradspec.backends import load
from gradspec.properties.cases.extremes import iterate_extreme_cases
from gradspec.properties.judging import subnormals
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.extremes import extremes_go_where_the_spec_says as law
from gradspec.reference import OPS

if not torch.set_flush_denormal(True):
    raise SystemExit("no such processor")
torch.set_flush_denormal(False)
right = load("torch")

def flush_within(fn):
    def flushing(*args, **keywords):
        torch.set_flush_denormal(True)
        try:
            return fn(*args, **keywords)
        finally:
            torch.set_flush_denormal(False)
    return flushing

def vjp(fn, *inputs):
    value, pullback = flush_within(right.vjp)(fn, *inputs)
    return value, flush_within(pullback)

ops = {name: flush_within(fn) for name, fn in right.ops.items()}
backend = replace(right, name="flushing", ops=ops, vjp=vjp)

def count_disagreements():
    cases = [
        case
        for name in ("abs", "divide", "log", "maximum", "multiply", "pow", "reciprocal", "relu", "sqrt")
        for dtype in ("float64", "float32", "bfloat16")
        for case in islice(iterate_extreme_cases(OPS[name], dtype), 0, None, 3)
    ]
    return sum(judge_case(law, backend, case).verdict == "disagree" for case in cases)

print([d for d in ("float64", "float32", "bfloat16", "float16") if subnormals.flushes_subnormals(backend, d)])
print(count_disagreements())
subnormals.flushes_subnormals(backend, "float32")
subnormals._probed_backends.clear()
subnormals.PROBED_SIZES = ()
print(count_disagreements() > 0)
"""


@pytest.mark.rotating
def test_torch_on_a_processor_that_flushes_is_right() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", TORCH_SCRIPT],
        env=make_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if "no such processor" in finished.stderr:
        pytest.skip("this processor cannot flush subnormal numbers")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines() == ["['float64', 'float32', 'bfloat16']", "0", "True"]
