"""What the tape costs, in calls: figures that are the same on every machine.

For seconds see asv_bench/tools/ratios.py.
"""

import gc
import sys
from typing import Any

import numpy as np

from gradspec.reference import Tensor
from gradspec.reference.op import OPS

log = OPS["log"].apply

MAX_CALLS_PER_OP = 9  # 8.5 on CPython 3.11: a step of multiply and log makes 17 calls


def _differentiate(steps: int) -> Tensor:
    """Differentiate a chain with two ops in each step, forward and backward."""
    x, w = (Tensor(np.full(8, value), requires_grad=True) for value in (1.5, 3.5))
    y = x
    for _ in range(steps):
        y = log(y * w)
    y.backward(np.ones(8))
    return y


def _count_calls(steps: int) -> int:
    """Return the number of calls of Python and built-in functions; ufuncs and operators are not counted."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    _differentiate(1)  # fills the caches, which is not part of the cost of an op
    before = sys.getprofile()
    gc.disable()  # its callbacks, such as Hypothesis's, would be counted as well
    sys.setprofile(count)
    try:
        _differentiate(steps)
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls


def test_calls_grow_in_proportion_to_the_ops() -> None:
    assert _count_calls(400) - _count_calls(200) == 2 * (_count_calls(200) - _count_calls(100))


def test_an_op_costs_few_calls() -> None:
    per_op = (_count_calls(200) - _count_calls(100)) / 200
    assert per_op <= MAX_CALLS_PER_OP, (
        f"{per_op} calls an op; look for what was added to `record` or `run_backward`"
    )


def test_a_record_is_freed_without_the_cyclic_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        _differentiate(10)
        before = sum(type(x) is Tensor for x in gc.get_objects())
        _differentiate(1000)
        assert sum(type(x) is Tensor for x in gc.get_objects()) == before
    finally:
        gc.enable()


def test_depth_is_not_bounded_by_the_stack() -> None:
    _differentiate(10 * sys.getrecursionlimit())
